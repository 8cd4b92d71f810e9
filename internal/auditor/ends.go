package auditor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
)

const (
	// secondLookAfter is the time between the first look at the ends of the log and the last. Within it a marker that
	// is late arrives, and a new leader learns its high watermark (KIP-207). A take-over waits as long.
	secondLookAfter = 5 * time.Second
	// lookPace is the time between two looks: a marker follows its transaction within milliseconds.
	lookPace = 100 * time.Millisecond
	// lookTimeout bounds one look, failed attempts included: a partition whose leader died has another by then.
	lookTimeout = 10 * time.Second
)

// ends returns the end up to which each partition is judged. They are read after the snapshot was taken, so all that
// the snapshot says was sent must be below the stable end. Where it is not, ends looks again until secondLookAfter has
// passed. What is not below it by then is undecided below the high watermark, and missing at or beyond that.
func (a *audit) ends(ctx context.Context) ([]kafka.Range, error) {
	ends, err := a.look(ctx) // Before the rows are counted, which takes time: what is sent meanwhile is in flight.
	if err != nil {
		return nil, err
	}
	first := time.Now()
	last, err := a.count(ctx, len(ends))
	if err != nil {
		return nil, err
	}
	for final := false; !final && !allStable(ends, last); {
		if err := pause(ctx, lookPace); err != nil {
			return nil, err
		}
		final = time.Since(first) >= secondLookAfter
		now, err := a.look(ctx)
		if err != nil {
			return nil, err
		}
		for p := range ends {
			if ends[p].StableEnd <= last[p] {
				ends[p] = now[p]
			}
		}
	}
	return ends, nil
}

// allStable reports whether the last payment of each partition is below the stable end.
func allStable(ends []kafka.Range, last []int64) bool {
	for p := range ends {
		if ends[p].StableEnd <= last[p] {
			return false
		}
	}
	return true
}

// look reads the ends of the log. It tries again on errors, since a partition may have no leader for a moment.
func (a *audit) look(ctx context.Context) ([]kafka.Range, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	for {
		ends, err := a.log.Ranges(ctx, a.report.Topic)
		switch {
		case err == nil:
			return ends, a.sameTopic(ends)
		case errors.Is(err, kafka.ErrNoTopic) || pause(ctx, lookPace) != nil:
			return nil, err
		}
	}
}

// sameTopic returns ErrOtherTopic unless the log is the one that the payments were sent to.
func (a *audit) sameTopic(ends []kafka.Range) error {
	for _, p := range a.partitions {
		if int(p.Number) >= len(ends) || ends[p.Number].TopicID != p.TopicID {
			return fmt.Errorf("partition %d of %s: %w", p.Number, p.Topic, ErrOtherTopic)
		}
	}
	return nil
}

// count counts the payments, and returns for each of n partitions the last offset of a payment that is marked sent, or
// -1 where there is none.
func (a *audit) count(ctx context.Context, n int) (last []int64, err error) {
	totals, err := a.snapshot.Totals(ctx)
	if err != nil {
		return nil, err
	}
	last = make([]int64, n)
	for p := range last {
		last[p] = -1
	}
	for _, t := range totals {
		if int(t.Partition) >= n {
			return nil, fmt.Errorf("%d payments are of partition %d: %w", t.Payments, t.Partition, ErrOtherTopic)
		}
		a.report.Payments += t.Payments
		a.report.Unsent += t.Unsent
		last[t.Partition] = t.LastOffset
	}
	return last, nil
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
