package sender

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/store"
)

const (
	// maxFailures is how many passes may fail in a row before the owner gives its partition to a replica that may do better.
	maxFailures = 3
	// shrunkAfter is how long an end of the log below our next offset must last to be believed: a leader that has just taken over may
	// not know its high watermark yet (KIP-207).
	shrunkAfter = 5 * time.Second
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

// owner holds one partition: it takes over once, and then makes passes, paced by news and by a tick.
type owner struct {
	sender    *Sender
	partition int32
	session   *store.Session
	news      chan struct{}
	cancel    context.CancelFunc
	released  bool // Only the Sender's goroutine looks at it.

	acknowledged *batch // What is in the topic and could not be marked; nil when nothing is.
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

// run owns the partition until ctx ends, the session is lost, the partition is halted, or maxFailures passes have failed in a row.
func (o *owner) run(ctx context.Context) error {
	var err error
	if o.session, err = o.sender.Store.Own(ctx, o.partition); err != nil {
		return ifLive(ctx, err)
	}
	defer o.session.Close()
	o.sender.Logger.Debug("partition taken", "partition", o.partition)
	work := o.takeOver
	for failures := 0; ctx.Err() == nil; {
		// Work goes to its end even when ctx ends meanwhile: what is published must be marked. Each of its steps has a bound of its own.
		again, err := work(context.WithoutCancel(ctx))
		switch {
		case err == nil:
			work, failures = o.pass, 0
			if !again {
				o.rest(ctx, store.TouchEvery)
			}
		case errors.Is(err, errHalted), o.session.Lost():
			return ifLive(ctx, err)
		default:
			o.sender.Metrics.passFailed()
			// With a batch that is acknowledged and not marked, giving up would have another owner repeat it.
			if failures = min(failures+1, maxFailures); failures == maxFailures && o.acknowledged == nil {
				return fmt.Errorf("%w after %d failed passes: %w", errGaveUp, failures, err)
			}
			o.sender.Logger.Debug("pass failed", "partition", o.partition, "attempt", failures, "error", err)
			pause(ctx, jitter(backoffMin<<failures)) // Not cut short by news: under load there always is some.
		}
	}
	return nil
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

// takeOver is the first work of an owner. It makes sure, under the partition's lock, that the topic is the one the payments so far went to, and that none of them can have been lost
// there. Otherwise the partition halts: nothing is guessed, an operator decides.
func (o *owner) takeOver(ctx context.Context) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, takeOverTimeout)
	defer cancel()
	claim, err := o.session.Claim(ctx, 0)
	if err != nil {
		return false, err
	}
	defer claim.Rollback()
	if err := o.mayNotSend(claim.Partition); err != nil {
		return false, err
	}
	reason, err := o.judge(ctx, claim.Partition)
	if err != nil {
		return false, err
	}
	if reason != "" {
		return false, o.halt(ctx, claim, reason)
	}
	return true, nil
}

// judge compares what the log is with what the database says of it; a reason is why they cannot both be true.
func (o *owner) judge(ctx context.Context, p store.Partition) (reason string, err error) {
	log, err := o.sender.Log.Range(ctx, p.Topic, p.Number)
	if err != nil {
		return "", err
	}
	if log.End < p.NextOffset && log.TopicID == p.TopicID { // Looked at twice: see shrunkAfter.
		pause(ctx, shrunkAfter)
		if log, err = o.sender.Log.Range(ctx, p.Topic, p.Number); err != nil {
			return "", err
		}
	}
	return contradiction(p, log), nil
}

// contradiction says what about the log cannot be if all that the database has marked is in it; empty when nothing.
func contradiction(p store.Partition, log kafka.Range) string {
	switch {
	case log.TopicID != p.TopicID:
		return fmt.Sprintf("topic %s is another one than the payments went to: its id is %s, was %s", p.Topic, log.TopicID, p.TopicID)
	case log.Start > p.NextOffset:
		return fmt.Sprintf("the log begins at offset %d, after the next offset %d: records were deleted that were never judged", log.Start, p.NextOffset)
	case log.End < p.NextOffset:
		return fmt.Sprintf("the log ends at offset %d, before the next offset %d: acknowledged records are lost", log.End, p.NextOffset)
	}
	return ""
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

// ifLive drops errors that only say that we were asked to stop.
func ifLive(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
