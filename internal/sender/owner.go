package sender

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

const (
	// maxFailures is how many passes may fail in a row before the owner gives its partition to a replica that may do better.
	maxFailures = 3
	// takeOverTimeout bounds a take-over, in whose transaction the log is asked how far it goes, twice if it seems to have shrunk; it stays below the
	// session's idle-in-transaction time-out.
	takeOverTimeout = shrunkAfter + 8*time.Second
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
	partition int32
	session   *store.Session // Nil between two sessions.
	news      chan struct{}
	cancel    context.CancelFunc
	released  bool // Only the Sender's goroutine looks at it.
}

// delivery is how a partition's payments are sent: locked.go, fenced.go.
type delivery interface {
	// work takes the partition over, when that is to be done, or makes a pass; again tells that there may be more to do at once.
	work(ctx context.Context) (again bool, err error)
	// failed lets go of what an error has made doubtful; without a session the owner opens a new one.
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

// run owns the partition until ctx ends, the partition is halted or owned by another, or maxFailures pieces of work have failed in a row.
func (o *owner) run(ctx context.Context) error {
	d := o.delivery()
	defer func() {
		if o.session != nil {
			d.failed() // Of no use any more, whatever it holds.
		}
		if o.session != nil {
			o.session.Close()
		}
	}()
	for failures := 0; ctx.Err() == nil; {
		again, err := o.work(ctx, d)
		switch {
		case err == nil:
			failures = 0
			if !again {
				o.rest(ctx, store.TouchEvery)
			}
		case errors.Is(err, errHalted), errors.Is(err, store.ErrOwned):
			return ifLive(ctx, err)
		default:
			o.sender.Metrics.passFailed()
			if failures = min(failures+1, maxFailures); failures == maxFailures && !d.indebted() {
				return fmt.Errorf("%w after %d failed passes: %w", errGaveUp, failures, err)
			}
			if o.session != nil {
				d.failed()
			}
			o.sender.Logger.Debug("pass failed", "partition", o.partition, "attempt", failures, "error", err)
			pause(ctx, jitter(backoffMin<<failures)) // Not cut short by news: under load there always is some.
		}
	}
	return nil
}

// work does the next piece of work, on a session. It goes to its end even when ctx ends meanwhile: what is published must be marked. Each of its steps has a bound of
// its own.
func (o *owner) work(ctx context.Context, d delivery) (again bool, err error) {
	if o.session == nil {
		if o.session, err = o.sender.Store.Own(ctx, o.partition); err != nil {
			return false, err
		}
		o.sender.Logger.Debug("partition taken", "partition", o.partition)
	}
	return d.work(context.WithoutCancel(ctx))
}

// rest waits until there is news or the time is over.
func (o *owner) rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-o.news:
	}
}

// pause waits, whatever the news.
func pause(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}

// mayNotSend says why this process may not send to a partition; it is asked under the partition's lock.
func (o *owner) mayNotSend(p store.Partition) error {
	switch {
	case p.State != store.Active:
		return fmt.Errorf("partition %d is %w: %s", p.Number, errHalted, p.Reason)
	case p.Delivery != o.sender.Delivery:
		return fmt.Errorf("partition %d is %w for this process: its delivery is %s", p.Number, errHalted, p.Delivery)
	}
	return nil
}

// halt puts on record that the partition waits for an operator, with all else that the claim has marked.
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

// errNothingClaimed says that there are unsent payments that a claim does not see: a row they refer to is missing (a partial restore), or a session
// outside of this program holds them.
var errNothingClaimed = errors.New("there are unsent payments, but none can be claimed: a party or account is missing, or another session holds the rows")

// encode makes the events of as many payments as fit into one batch.
func (o *owner) encode(payments []payment.Payment) ([]kafka.Event, error) {
	events := make([]kafka.Event, len(payments))
	for i, p := range payments {
		var err error
		if events[i], err = o.sender.Encoder.Encode(p); err != nil {
			return nil, err
		}
	}
	return events[:kafka.Fit(events)], nil
}

// sent counts a batch that is on record.
func (o *owner) sent(payments []payment.Payment) {
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
