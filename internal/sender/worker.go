package sender

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/paylatch/paylatch/internal/recovery"
	"github.com/paylatch/paylatch/internal/sleep"
	"github.com/paylatch/paylatch/internal/store"
)

// maxFailures is how many takeovers or batches may fail in a row before the worker releases its
// partition to a replica that may do better.
const maxFailures = 3

// errHalted ends a worker whose partition waits for an operator.
var errHalted = errors.New("halted")

// ended reports that the worker of a partition has ended, and why. The error is nil if it was asked
// to.
type ended struct {
	partition int32
	err       error
}

// state is what a partitionWorker does next. Each step leads to the next state, and an error leads
// back: see failed.
type state string

const (
	// stateAcquiring opens a session, which makes the worker the partition's owner.
	stateAcquiring state = "acquiring"
	// stateRecovering takes the partition over: it compares the log with the table, step by step.
	stateRecovering state = "recovering"
	// stateSending sends batches.
	stateSending state = "sending"
)

// partitionWorker owns one partition, its database session and, by its delivery, its producer. It
// is paced by notifications and by a tick.
type partitionWorker struct {
	sender    *Sender
	topic     string
	partition int32
	delivery  delivery

	state state
	// session is nil while the worker is acquiring, and only then.
	session *store.Session
	// known is the partition's row as this worker has left it. Its generation is 0 before the first
	// step of a takeover.
	known    store.Partition
	endCheck endCheck

	notified chan struct{}
	cancel   context.CancelFunc
	// hasHint is true if there are probably payments: the last batch was full, or there was a
	// notification.
	hasHint bool
	// idle is true while the worker waits for payments.
	idle atomic.Bool
	// failures counts the takeovers and batches that have failed in a row. A takeover that succeeds
	// in between does not count.
	failures atomic.Int32

	// released and the following fields belong to the Sender's goroutine.
	released     bool
	adoptedUntil time.Time
	// since is when the worker started.
	since time.Time
}

// newWorker returns a worker that does nothing before run.
func (s *Sender) newWorker(p store.Partition, cancel context.CancelFunc) *partitionWorker {
	return &partitionWorker{
		sender: s, topic: p.Topic, partition: p.Number, delivery: s.newDelivery(p.Number),
		state: stateAcquiring, notified: make(chan struct{}, 1), cancel: cancel, since: time.Now(),
	}
}

// inShare reports whether the partition counts in the replica's share. It does not after release,
// or while it is adopted.
func (w *partitionWorker) inShare() bool { return !w.released && time.Now().After(w.adoptedUntil) }

// release asks the worker to finish the batch in progress and release its partition.
func (w *partitionWorker) release() {
	w.released = true
	w.cancel()
}

// notify notifies the worker of new payments. It never waits.
func (w *partitionWorker) notify() {
	select {
	case w.notified <- struct{}{}:
	default:
	}
}

// run owns the partition until ctx ends, the partition is halted or has another owner, the database
// refuses a session, or maxFailures takeovers or batches have failed in a row.
func (w *partitionWorker) run(ctx context.Context) error {
	defer w.endCheck.stop()
	defer w.reset()
	for poison := 0; ctx.Err() == nil; {
		again, err := w.step(ctx)
		switch {
		case err == nil:
			if !again {
				w.failures.Store(0)
				w.idle.Store(true)
				w.wait(ctx, store.TouchEvery)
				w.idle.Store(false)
			}
		case errors.Is(err, errHalted), errors.Is(err, store.ErrOwned), store.SessionRefused(err):
			return ifLive(ctx, err)
		default:
			w.sender.Metrics.batchFailed()
			failures := min(w.failures.Load()+1, maxFailures)
			w.failures.Store(failures)
			poison++
			if !isPoison(err) {
				poison = 0
			}
			if failures == maxFailures && !w.delivery.mustKeep() {
				return w.releaseFailed(ctx, err, poison >= maxFailures)
			}
			w.failed(err)
			w.sender.Logger.Debug("batch failed", "partition", w.partition, "attempt", failures, "error", err)
			// A notification does not end the pause: under load there always is one.
			_ = sleep.For(ctx, jitter(backoffMin<<failures))
		}
	}
	return nil
}

// step does what the state asks for. again reports that there may be more to do at once.
//
// A takeover's step and a batch go to their end even if ctx ends, since what is published must be
// marked. Each of their parts has a bound of its own.
func (w *partitionWorker) step(ctx context.Context) (again bool, err error) {
	switch w.state {
	case stateAcquiring:
		return true, w.acquire(ctx)
	case stateRecovering:
		return true, w.recover(context.WithoutCancel(ctx))
	default:
		return w.sendBatch(context.WithoutCancel(ctx))
	}
}

// failed leads back to an earlier state after an error.
func (w *partitionWorker) failed(err error) {
	w.endCheck.stop()
	switch {
	case w.state == stateAcquiring:
	case w.session.Lost() || !w.delivery.keepsSession():
		w.reset()
	case errors.Is(err, errContradiction):
		w.state, w.known = stateRecovering, store.Partition{} // The log is compared again.
	}
}

// reset releases the partition. The session is closed first, so that the next owner need not wait
// for the rest.
func (w *partitionWorker) reset() {
	if w.session != nil {
		w.session.Close()
	}
	w.delivery.reset()
	w.state, w.session, w.known = stateAcquiring, nil, store.Partition{}
}

// releaseFailed ends a worker whose batches failed. A poison payment would pass from one owner to
// the next, again and again, and block all payments after it. So the partition halts for an
// operator, with the payment's id in the reason. With any other failure another replica may do
// better.
func (w *partitionWorker) releaseFailed(ctx context.Context, err error, poison bool) error {
	if poison {
		ctx, cancel := context.WithTimeout(ctx, store.RecordTimeout)
		defer cancel()
		if w.sender.Store.Halt(ctx, w.partition, err.Error()) == nil {
			// The claim was rolled back, so nothing holds the row.
			return fmt.Errorf("partition %d is now %w: %w", w.partition, errHalted, err)
		}
	}
	return fmt.Errorf("%w after %d failed batches: %w", errReleased, maxFailures, err)
}

// acquire opens the session.
//
// It checks whether Kafka responds before that. A replica that is cut off from Kafka does not keep
// the partition from others.
func (w *partitionWorker) acquire(ctx context.Context) error {
	if err := w.sender.reach(ctx, w.topic, w.partition); err != nil {
		return err
	}
	session, err := w.own(ctx)
	if err != nil {
		return err
	}
	session.OnCreated(w.notify)
	w.session, w.state = session, stateRecovering
	w.sender.Logger.Debug("session opened", "partition", w.partition)
	return nil
}

// own opens the session. If the database refuses one for lack of connections, it tries once more,
// after the pool has closed its idle connections. A worker that has just ended may have made room,
// too.
func (w *partitionWorker) own(ctx context.Context) (*store.Session, error) {
	session, err := w.sender.Store.Own(ctx, w.partition)
	if store.SessionRefused(err) {
		w.sender.Store.CloseIdle(ctx)
		_ = sleep.For(ctx, jitter(2*refusedPause))
		session, err = w.sender.Store.Own(ctx, w.partition)
	}
	return session, err
}

// recover makes one step of a takeover, under the partition's lock.
func (w *partitionWorker) recover(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, recovery.Timeout)
	defer cancel()
	claim, err := w.session.Claim(ctx, 0)
	if err != nil {
		return err
	}
	defer claim.Rollback()
	if err := w.checkMaySend(claim.Partition); err != nil {
		return err
	}
	done, err := w.delivery.recover(ctx, claim, w.known)
	if reason := haltReason(err); reason != "" {
		return w.halt(ctx, claim, reason)
	}
	if err != nil {
		return err
	}
	w.known = claim.Partition
	if done {
		w.state = stateSending
	}
	return nil
}

// wait waits for a notification, or for d at most.
func (w *partitionWorker) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-w.notified:
		w.hasHint = true // The notification may be of payments that the last claim took.
	}
}

// ifLive drops the errors of a worker that was asked to stop.
func ifLive(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
