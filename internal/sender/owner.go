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
	// maxFailures is how many passes may fail in a row before the owner gives its partition to a
	// replica that may do better.
	maxFailures = 3
)

// errHalted ends an owner whose partition waits for an operator.
var errHalted = errors.New("halted")

// ended says that the owner of a partition has ended, and why; nil when it was asked to.
type ended struct {
	partition int32
	err       error
}

// owner holds one partition: it paces the work of a delivery, by news and by a tick.
type owner struct {
	sender    *Sender
	topic     string
	partition int32
	// Nil between two sessions.
	session *store.Session
	news    chan struct{}
	cancel  context.CancelFunc
	// There are payments, in all likelihood: the last batch was as large as may be, or there was
	// news.
	expects bool
	// It waits for payments.
	idle atomic.Bool
	// Pieces of work that failed since a pass did not; a take-over that succeeds between them says
	// nothing.
	failures atomic.Int32

	// known is the partition's row as this owner has left it, once it has taken over.
	known    store.Partition
	endCheck endCheck

	// Only the Sender's goroutine looks at these.
	released   bool
	apartUntil time.Time
	// When it began.
	since time.Time
}

// counts tells whether the partition makes up a part of the replica's share: not when it was asked
// to give it back, and not when it has adopted it.
func (o *owner) counts() bool { return !o.released && time.Now().After(o.apartUntil) }

// delivery is how a partition's payments are sent: locked.go, fenced.go.
type delivery interface {
	// work takes the partition over, when that is to be done, or makes a pass; again tells that
	// there may be more to do at once.
	work(ctx context.Context) (again bool, err error)
	// failed lets go of what an error has made doubtful; without a session the owner opens a new
	// one.
	failed()
	// indebted tells that nobody else could do better than this owner.
	indebted() bool
}

// delivery returns what does the owner's work.
func (o *owner) delivery() delivery {
	if o.sender.Delivery == store.Fenced {
		return &fenced{owner: o}
	}
	return &locked{owner: o}
}

// release asks the owner to finish the pass in hand and give its partition back.
func (o *owner) release() {
	o.released = true
	o.cancel()
}

// wake tells the owner that there are new payments; it never waits.
func (o *owner) wake() {
	select {
	case o.news <- struct{}{}:
	default:
	}
}

// run owns the partition until ctx ends, the partition is halted or owned by another, the database
// has no session for it, or maxFailures pieces of work have failed without a pass that did not.
func (o *owner) run(ctx context.Context) error {
	d := o.delivery()
	defer o.endCheck.stop()
	defer func() {
		if o.session != nil {
			d.failed() // Of no use any more, whatever it holds.
		}
		if o.session != nil {
			o.session.Close()
		}
	}()
	for unfit := 0; ctx.Err() == nil; {
		again, err := o.work(ctx, d)
		switch {
		case err == nil:
			if !again {
				o.failures.Store(0)
				o.idle.Store(true)
				o.rest(ctx, store.TouchEvery)
				o.idle.Store(false)
			}
		case errors.Is(err, errHalted), errors.Is(err, store.ErrOwned), store.SessionRefused(err):
			return ifLive(ctx, err)
		default:
			o.sender.Metrics.passFailed()
			failures := min(o.failures.Load()+1, maxFailures)
			o.failures.Store(failures)
			if unfit++; !isUnfit(err) {
				unfit = 0
			}
			if failures == maxFailures && !d.indebted() {
				return o.giveUp(ctx, err, unfit >= maxFailures)
			}
			o.endCheck.stop()
			if o.session != nil {
				d.failed()
			}
			o.sender.Logger.Debug("pass failed", "partition", o.partition, "attempt", failures, "error", err)
			// Not cut short by news: under load there always is some.
			pause(ctx, jitter(backoffMin<<failures))
		}
	}
	return nil
}

// isUnfit tells whether an error comes of a payment that no sender could send.
func isUnfit(err error) bool { return errors.Is(err, errUnfit) || store.IsCorrupt(err) }

// giveUp ends an owner whose passes failed. An unfit payment would go from one owner to the next
// for ever, with all that come after it waiting: the partition halts for an operator, who is told
// which it is. All else another replica may do better.
func (o *owner) giveUp(ctx context.Context, err error, unfit bool) error {
	if unfit {
		ctx, cancel := context.WithTimeout(ctx, store.RecordTimeout)
		defer cancel()
		if o.sender.Store.Halt(ctx, o.partition, err.Error()) == nil {
			// The claim was rolled back, so nothing holds the row.
			return fmt.Errorf("partition %d is now %w: %w", o.partition, errHalted, err)
		}
	}
	return fmt.Errorf("%w after %d failed passes: %w", errGaveUp, maxFailures, err)
}

// work does the next piece of work, on a session. It goes to its end even when ctx ends meanwhile:
// what is published must be marked. Each of its steps has a bound of its own. Whether Kafka answers
// is asked before there is a session: a replica that is cut off from it does not keep the partition
// from others.
func (o *owner) work(ctx context.Context, d delivery) (again bool, err error) {
	if o.session == nil {
		if err := o.sender.reach(ctx, o.topic, o.partition); err != nil {
			return false, err
		}
		if o.session, err = o.own(ctx); err != nil {
			return false, err
		}
		o.session.OnCreated(o.wake)
		o.sender.Logger.Debug("partition taken", "partition", o.partition)
	}
	return d.work(context.WithoutCancel(ctx))
}

// own opens the session. One that the database refuses for want of a place is tried once more,
// after the pool has given up what it does not use: an owner that has just ended may have left a
// place, too.
func (o *owner) own(ctx context.Context) (*store.Session, error) {
	session, err := o.sender.Store.Own(ctx, o.partition)
	if store.SessionRefused(err) {
		o.sender.Store.CloseIdle(ctx)
		pause(ctx, jitter(2*refusedPause))
		session, err = o.sender.Store.Own(ctx, o.partition)
	}
	return session, err
}

// rest waits until there is news or the time is over.
func (o *owner) rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-o.news:
		o.expects = true // The news may be of payments that the last claim took.
	}
}

// pause waits, whatever the news.
func pause(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}

// mayNotSend says why this process may not send to a partition; it is asked under the partition's
// lock.
func (o *owner) mayNotSend(p store.Partition) error {
	switch {
	case p.State != store.Active:
		return fmt.Errorf("partition %d is %w: %s", p.Number, errHalted, p.Reason)
	case p.Delivery != o.sender.Delivery:
		return fmt.Errorf("partition %d is %w for this process: its delivery is %s", p.Number, errHalted, p.Delivery)
	}
	return nil
}

// halt puts on record that the partition waits for an operator, with all else that the claim has
// marked.
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

// mayHaveUnsent tells whether there may be payments to send. When it expects some it does not ask:
// a claim tells as well, and most find them. That one which finds nothing takes a transaction id is
// no matter then; where nothing is created nothing is expected.
func (o *owner) mayHaveUnsent(ctx context.Context) (bool, error) {
	if o.expects {
		return true, nil
	}
	return o.session.HasUnsent(ctx)
}

// claim claims the next batch, on terms under which this process may send it. None is claimed when
// there was none after all.
func (o *owner) claim(ctx context.Context) (*store.Claim, error) {
	claim, err := o.session.Claim(ctx, o.sender.BatchMax)
	if err != nil {
		return nil, err
	}
	if err = o.mayNotSend(claim.Partition); err == nil && len(claim.Payments) == 0 && !o.expects {
		err = fmt.Errorf("partition %d: %w", o.partition, errNothingClaimed)
	}
	if err != nil {
		claim.Rollback()
		return nil, err
	}
	o.expects = len(claim.Payments) == o.sender.BatchMax
	return claim, nil
}

// errNothingClaimed says that there are unsent payments that a claim does not see: a session
// outside of this program holds them, or an operator has just decided about them.
var errNothingClaimed = errors.New("there are unsent payments, but none can be claimed: another session holds the rows")

// errUnfit says that a payment cannot be made an event of.
var errUnfit = errors.New("no event can be made")

// encode makes the events of as many payments as fit into one batch.
func (o *owner) encode(payments []payment.Payment) ([]kafka.Event, error) {
	events := make([]kafka.Event, len(payments))
	for i, p := range payments {
		var err error
		if events[i], err = o.sender.Encoder.Encode(p); err != nil {
			return nil, fmt.Errorf("%w: %w", errUnfit, err) // Which names the payment.
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

// ifLive drops errors that only say that we were asked to stop.
func ifLive(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
