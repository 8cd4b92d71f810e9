package sender

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

const (
	// maxFailures is how many batches may fail in a row before the owner releases its partition to
	// a replica that may do better.
	maxFailures = 3
)

// errHalted ends an owner whose partition waits for an operator.
var errHalted = errors.New("halted")

// ended reports that the owner of a partition has ended, and why. The error is nil if it was asked
// to.
type ended struct {
	partition int32
	err       error
}

// owner owns one partition. It paces the work of a delivery by notifications and by a tick.
type owner struct {
	sender    *Sender
	topic     string
	partition int32
	// session is nil between two sessions.
	session  *store.Session
	notified chan struct{}
	cancel   context.CancelFunc

	// hasHint is true if there are probably payments: the last batch was full, or there was a
	// notification.
	hasHint bool
	// idle is true while the owner waits for payments.
	idle atomic.Bool
	// failures counts the takeovers and batches that have failed in a row. A takeover that succeeds
	// in between does not count.
	failures atomic.Int32

	// known is the partition's row as this owner has left it, once it has taken over.
	known    store.Partition
	endCheck endCheck

	// released and the following fields belong to the Sender's goroutine.
	released     bool
	adoptedUntil time.Time
	// since is when the owner started.
	since time.Time
}

// inShare reports whether the partition counts in the replica's share. It does not after release,
// or while it is adopted.
func (o *owner) inShare() bool { return !o.released && time.Now().After(o.adoptedUntil) }

// delivery sends the payments of a partition: locked.go, fenced.go.
type delivery interface {
	// work takes the partition over if necessary, and otherwise sends a batch. again reports that
	// there may be more to do at once.
	work(ctx context.Context) (again bool, err error)
	// failed drops what is in doubt after an error. If it drops the session, the owner opens a new
	// one.
	failed()
	// mustKeep reports that no other owner could do better than this one.
	mustKeep() bool
}

// delivery returns the delivery that does the owner's work.
func (o *owner) delivery() delivery {
	if o.sender.Delivery == store.DeliveryFenced {
		return &fenced{owner: o}
	}
	return &locked{owner: o}
}

// release asks the owner to finish the batch in progress and release its partition.
func (o *owner) release() {
	o.released = true
	o.cancel()
}

// notify notifies the owner of new payments. It never waits.
func (o *owner) notify() {
	select {
	case o.notified <- struct{}{}:
	default:
	}
}

// run owns the partition until ctx ends, the partition is halted or has another owner, the database
// refuses a session, or maxFailures takeovers or batches have failed in a row.
func (o *owner) run(ctx context.Context) error {
	d := o.delivery()
	defer o.endCheck.stop()
	defer func() {
		if o.session != nil {
			d.failed() // What it holds is no longer needed.
		}
		if o.session != nil {
			o.session.Close()
		}
	}()
	for poison := 0; ctx.Err() == nil; {
		again, err := o.work(ctx, d)
		switch {
		case err == nil:
			if !again {
				o.failures.Store(0)
				o.idle.Store(true)
				o.wait(ctx, store.TouchEvery)
				o.idle.Store(false)
			}
		case errors.Is(err, errHalted), errors.Is(err, store.ErrOwned), store.SessionRefused(err):
			return ifLive(ctx, err)
		default:
			o.sender.Metrics.batchFailed()
			failures := min(o.failures.Load()+1, maxFailures)
			o.failures.Store(failures)
			if poison++; !isPoison(err) {
				poison = 0
			}
			if failures == maxFailures && !d.mustKeep() {
				return o.releaseFailed(ctx, err, poison >= maxFailures)
			}
			o.endCheck.stop()
			if o.session != nil {
				d.failed()
			}
			o.sender.Logger.Debug("batch failed", "partition", o.partition, "attempt", failures, "error", err)
			// A notification does not end the pause: under load there always is one.
			sleep(ctx, jitter(backoffMin<<failures))
		}
	}
	return nil
}

// isPoison reports whether err is due to a payment that no sender could send.
func isPoison(err error) bool { return errors.Is(err, errPoison) || store.IsCorrupt(err) }

// releaseFailed ends an owner whose batches failed. A poison payment would pass from one owner to
// the next, again and again, and block all payments after it. So the partition halts for an
// operator, with the payment's id in the reason. With any other failure another replica may do
// better.
func (o *owner) releaseFailed(ctx context.Context, err error, poison bool) error {
	if poison {
		ctx, cancel := context.WithTimeout(ctx, store.RecordTimeout)
		defer cancel()
		if o.sender.Store.Halt(ctx, o.partition, err.Error()) == nil {
			// The claim was rolled back, so nothing holds the row.
			return fmt.Errorf("partition %d is now %w: %w", o.partition, errHalted, err)
		}
	}
	return fmt.Errorf("%w after %d failed batches: %w", errReleased, maxFailures, err)
}

// work does the next takeover step or batch, on a session. It goes to its end even if ctx ends,
// since what is published must be marked. Each of its steps has a bound of its own.
//
// It checks whether Kafka responds before it opens a session. A replica that is cut off from Kafka
// does not keep the partition from others.
func (o *owner) work(ctx context.Context, d delivery) (again bool, err error) {
	if o.session == nil {
		if err := o.sender.reach(ctx, o.topic, o.partition); err != nil {
			return false, err
		}
		if o.session, err = o.own(ctx); err != nil {
			return false, err
		}
		o.session.OnCreated(o.notify)
		o.sender.Logger.Debug("session opened", "partition", o.partition)
	}
	return d.work(context.WithoutCancel(ctx))
}

// own opens the session. If the database refuses one for lack of connections, it tries once more,
// after the pool has closed its idle connections. An owner that has just ended may have made room,
// too.
func (o *owner) own(ctx context.Context) (*store.Session, error) {
	session, err := o.sender.Store.Own(ctx, o.partition)
	if store.SessionRefused(err) {
		o.sender.Store.CloseIdle(ctx)
		sleep(ctx, jitter(2*refusedPause))
		session, err = o.sender.Store.Own(ctx, o.partition)
	}
	return session, err
}

// wait waits for a notification, or for d at most.
func (o *owner) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-o.notified:
		o.hasHint = true // The notification may be of payments that the last claim took.
	}
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}

// checkMaySend returns an error if this process may not send to the partition. The caller holds the
// partition's lock.
func (o *owner) checkMaySend(p store.Partition) error {
	switch {
	case p.State != store.StateActive:
		return fmt.Errorf("partition %d is %w: %s", p.Number, errHalted, p.Reason)
	case p.Delivery != o.sender.Delivery:
		return fmt.Errorf("partition %d is %w for this process: its delivery is %s", p.Number, errHalted, p.Delivery)
	}
	return nil
}

// halt halts the partition for an operator, and puts all marks of the claim on record.
func (o *owner) halt(ctx context.Context, claim *store.Claim, reason string) error {
	ctx, cancel := context.WithTimeout(ctx, store.RecordTimeout)
	defer cancel()
	if err := claim.Halt(ctx, reason); err != nil {
		return err
	}
	if err := claim.Commit(ctx); err != nil {
		return err
	}
	return fmt.Errorf("partition %d is now %w: %s", o.partition, errHalted, reason)
}

// mayHaveUnsent reports whether the partition may have unsent payments. If a notification or a full
// batch suggests so, it skips the query and lets the claim find out. An empty claim costs one
// transaction id. That only happens under load, since without new payments there is no hint.
func (o *owner) mayHaveUnsent(ctx context.Context) (bool, error) {
	if o.hasHint {
		return true, nil
	}
	return o.session.HasUnsent(ctx)
}

// claim claims the next batch, if this process may send it. The batch is empty if a hint was wrong.
func (o *owner) claim(ctx context.Context) (*store.Claim, error) {
	claim, err := o.session.Claim(ctx, o.sender.BatchMax)
	if err != nil {
		return nil, err
	}
	if err = o.checkMaySend(claim.Partition); err == nil && len(claim.Payments) == 0 && !o.hasHint {
		err = fmt.Errorf("partition %d: %w", o.partition, errNothingClaimed)
	}
	if err != nil {
		claim.Rollback()
		return nil, err
	}
	o.hasHint = len(claim.Payments) == o.sender.BatchMax
	return claim, nil
}

// errNothingClaimed means that there are unsent payments that a claim does not see. A session
// outside of this program has locked them, or an operator has just changed them.
var errNothingClaimed = errors.New("there are unsent payments, but none can be claimed: another session holds the rows")

// errPoison means that a payment cannot be encoded.
var errPoison = errors.New("no event can be made")

// encode encodes as many payments as fit into one batch.
func (o *owner) encode(payments []payment.Payment) ([]kafka.Event, error) {
	events := make([]kafka.Event, len(payments))
	for i, p := range payments {
		var err error
		if events[i], err = o.sender.Encoder.Encode(p); err != nil {
			return nil, fmt.Errorf("%w: %w", errPoison, err) // The error names the payment.
		}
	}
	return events[:kafka.Fit(events)], nil
}

// sent counts a batch that is on record.
func (o *owner) sent(payments []payment.Payment) {
	o.failures.Store(0)
	o.sender.worked.Store(true)
	o.sender.Metrics.sent(payments)
}

// ifLive drops the errors of an owner that was asked to stop.
func ifLive(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
