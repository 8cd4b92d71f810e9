package sender

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/recovery"
	"github.com/paylatch/paylatch/internal/store"
)

const (
	// endCheckEveryDefault is about how often an idle owner checks the end of its log. Its next
	// batch would notice lost records. Until there is one, nothing else does. A check costs three
	// small requests to the partition's leader. All partitions of a process share metadata for 100
	// ms.
	endCheckEveryDefault = 10 * time.Second
	// endCheckTimeout bounds one check. An unreachable Kafka is no contradiction, so the result of
	// a slow check is not needed.
	endCheckTimeout = 5 * time.Second
)

// errContradiction means that the log is not what the owner has left. The owner drops its state as
// after any error, and the takeover that follows compares the log under the partition's lock.
var errContradiction = errors.New("the log contradicts the database")

// endCheck checks the end of a partition's log while its owner is idle. It runs in a goroutine of
// its own, so it neither delays a payment nor keeps the owner from using its session. The zero
// value is ready.
type endCheck struct {
	// due is when the next check starts; zero before the first poll.
	due time.Time
	// running is the check in progress; nil if there is none.
	running *runningCheck
}

// runningCheck is one check. err is its result once ended is closed.
type runningCheck struct {
	ended  chan struct{}
	err    error
	cancel context.CancelFunc
}

// poll returns the result of a check that has ended, and starts a check when it is due. It does not
// wait.
//
// The row known is the one that the owner has left. A result may be older than the owner's last
// batch and still counts: what was on record then must be in the log.
func (c *endCheck) poll(s *Sender, known store.Partition) (err error) {
	every := cmp.Or(s.EndCheckEvery, endCheckEveryDefault)
	switch {
	case c.running != nil && c.running.isRunning(), c.running == nil && time.Now().Before(c.due):
		return nil
	case c.running != nil:
		err = c.running.err
		c.stop()
	case !c.due.IsZero():
		c.running = startCheck(s.Log, known)
		return nil
	}
	// The jitter spreads the checks of partitions that were acquired together.
	c.due = time.Now().Add(jitter(every))
	return err
}

// stop cancels the check in progress and waits for it. The next poll starts again.
func (c *endCheck) stop() {
	if c.running != nil {
		c.running.cancel()
		<-c.running.ended
	}
	*c = endCheck{}
}

func (r *runningCheck) isRunning() bool {
	select {
	case <-r.ended:
		return false
	default:
		return true
	}
}

// startCheck starts a check.
func startCheck(log Log, known store.Partition) *runningCheck {
	ctx, cancel := context.WithTimeout(context.Background(), endCheckTimeout)
	r := &runningCheck{ended: make(chan struct{}), cancel: cancel}
	go func() {
		defer close(r.ended)
		r.err = compareEnd(ctx, log, known)
	}()
	return r
}

// compareEnd returns errContradiction if the log lacks what the row has on record. It returns nil
// if Kafka does not respond.
func compareEnd(ctx context.Context, log Log, known store.Partition) error {
	r, err := log.Range(ctx, known.Topic, known.Number)
	if errors.Is(err, kafka.ErrNoTopic) {
		return fmt.Errorf("partition %d: %w: %w", known.Number, errContradiction, err)
	}
	if err != nil {
		return nil
	}
	reason := recovery.Contradiction(known, r)
	if recovery.LacksMarker(known, r) {
		reason = fmt.Sprintf("the log ends at offset %d, without the marker of the last batch", r.End)
	}
	if reason != "" {
		return fmt.Errorf("partition %d: %w: %s", known.Number, errContradiction, reason)
	}
	return nil
}
