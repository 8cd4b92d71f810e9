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
	// endCheckEveryDefault is about how often an owner that has nothing to send looks at the end of
	// its log. Its next batch would notice lost records; until there is one, nothing else does. A
	// look costs three small requests to the partition's leader. Metadata is shared by all
	// partitions of a process for 100 ms.
	endCheckEveryDefault = 10 * time.Second
	// endCheckTimeout bounds one look. Kafka being away is no contradiction, so the result of a
	// slow look is not missed.
	endCheckTimeout = 5 * time.Second
)

// errContradiction means that the log is not what the owner has left. The owner drops its state as
// after any error, and the takeover that follows compares the log under the partition's lock.
var errContradiction = errors.New("the log contradicts the database")

// endCheck looks at the end of a partition's log while its owner is idle. It does so in a goroutine
// of its own, and so neither delays a payment nor keeps the owner from touching its session. The
// zero value is ready.
type endCheck struct {
	// When the next look begins; zero before the first poll.
	due time.Time
	// The look under way; nil if there is none.
	look *look
}

// look is one look. err is its result once ended is closed.
type look struct {
	ended  chan struct{}
	err    error
	cancel context.CancelFunc
}

// poll returns the result of a look that has ended, and begins one when it is due. It does not
// wait.
//
// The row known is the one that the owner has left. A result may be older than the owner's last
// batch and is right all the same: what was on record then must still be in the log.
func (c *endCheck) poll(s *Sender, known store.Partition) (err error) {
	every := cmp.Or(s.EndCheckEvery, endCheckEveryDefault)
	switch {
	case c.look != nil && c.look.isUnderWay(), c.look == nil && time.Now().Before(c.due):
		return nil
	case c.look != nil:
		err = c.look.err
		c.stop()
	case !c.due.IsZero():
		c.look = lookAtEnd(s.Log, known)
		return nil
	}
	// The jitter spreads the looks of partitions that were acquired together.
	c.due = time.Now().Add(jitter(every))
	return err
}

// stop ends the check, and returns when a look that is under way has ended. The next poll begins it
// again.
func (c *endCheck) stop() {
	if c.look != nil {
		c.look.cancel()
		<-c.look.ended
	}
	*c = endCheck{}
}

func (l *look) isUnderWay() bool {
	select {
	case <-l.ended:
		return false
	default:
		return true
	}
}

// lookAtEnd begins a look.
func lookAtEnd(log Log, known store.Partition) *look {
	ctx, cancel := context.WithTimeout(context.Background(), endCheckTimeout)
	l := &look{ended: make(chan struct{}), cancel: cancel}
	go func() {
		defer close(l.ended)
		l.err = compareEnd(ctx, log, known)
	}()
	return l
}

// compareEnd returns errContradiction if the log lacks what the row has on record. An error of
// Kafka's is none.
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
