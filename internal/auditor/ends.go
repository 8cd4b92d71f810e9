package auditor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/sleep"
)

const (
	// lastReadAfter is the time between the first and the last read of the ends. Within it a late
	// marker arrives, and a new leader learns its high watermark (KIP-207). A takeover waits as
	// long.
	lastReadAfter = 5 * time.Second
	// readInterval is the time between two reads. A marker follows its transaction within
	// milliseconds.
	readInterval = 100 * time.Millisecond
	// readTimeout bounds one read with its retries. A partition whose leader died has a new one by
	// then.
	readTimeout = 10 * time.Second
)

// ends returns the end up to which each partition is judged.
//
// The ends are read after the snapshot is taken, so all that is marked sent in the snapshot must be
// below the stable end. If it is not, ends reads them again until lastReadAfter has passed. A
// payment that is not below the stable end by then is hidden if it is below the high watermark.
// Otherwise it is missing.
func (a *audit) ends(ctx context.Context) ([]kafka.Range, error) {
	// Counting takes time. What is sent while it runs is in flight, so the ends are read first.
	ends, err := a.readEnds(ctx)
	if err != nil {
		return nil, err
	}
	first := time.Now()
	last, err := a.count(ctx, len(ends))
	if err != nil {
		return nil, err
	}
	for final := false; !final && !allStable(ends, last); {
		if err := sleep.For(ctx, readInterval); err != nil {
			return nil, err
		}
		final = time.Since(first) >= lastReadAfter
		now, err := a.readEnds(ctx)
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

// readEnds reads the ends of the log. It retries errors, since a partition may have no leader for a
// moment.
func (a *audit) readEnds(ctx context.Context) ([]kafka.Range, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	for {
		ends, err := a.log.Ranges(ctx, a.report.Topic)
		switch {
		case err == nil:
			return ends, a.sameTopic(ends)
		case errors.Is(err, kafka.ErrNoTopic) || sleep.For(ctx, readInterval) != nil:
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

// count counts the payments in the report. It returns the last offset of a payment that is marked
// sent for each of n partitions, or -1 if there is none.
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
