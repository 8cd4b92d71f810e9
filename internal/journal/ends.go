package journal

import (
	"context"
	"time"

	"github.com/paylatch/paylatch/internal/sleep"
)

const (
	// endsTimeout is the time between the first reading of the topic's ends and the last. Within it
	// a late marker arrives, and a new leader learns its high watermark (KIP-207).
	endsTimeout = 5 * time.Second
	// endsPause is the time between two readings: a marker follows its transaction in milliseconds.
	endsPause = 100 * time.Millisecond
)

// logEnds is how far the log of a partition goes.
type logEnds struct {
	// start is the first offset that is still there.
	start int64
	// stable is the last stable offset: below it, no transaction is open.
	stable int64
	// end is the high watermark. It is never below stable.
	end int64
}

// ends reads how far each partition goes.
func (r *TopicReader) ends(ctx context.Context) (map[int32]logEnds, error) {
	starts, err := r.startOffsets(ctx)
	if err != nil {
		return nil, err
	}
	stable, err := r.StableOffsets(ctx)
	if err != nil {
		return nil, err
	}
	highs, err := r.highWatermarks(ctx) // After the stable offsets, so never below them.
	if err != nil {
		return nil, err
	}
	ends := make(map[int32]logEnds, len(stable))
	for p := range stable {
		ends[p] = logEnds{starts[p], stable[p], highs[p]}
	}
	return ends, nil
}

// awaitEnds reads the ends of the topic until all that the service reported as sent is below the
// stable offsets, or endsTimeout has passed. It is called after the service was queried.
func (a *audit) awaitEnds(ctx context.Context, reader *TopicReader) (err error) {
	last := a.lastOffsets()
	a.ends, err = reader.ends(ctx)
	first := time.Now()
	for final := false; err == nil && !final && !a.allStable(last); {
		if err := sleep.For(ctx, endsPause); err != nil {
			return err
		}
		final = time.Since(first) >= endsTimeout
		a.ends, err = reader.ends(ctx)
	}
	return err
}

// lastOffsets returns the last offset at which the service reports a payment, by partition.
func (a *audit) lastOffsets() map[int32]int64 {
	last := map[int32]int64{}
	for _, p := range a.payments {
		if at := p.position; at != nil && at.Topic == a.topic {
			last[at.Partition] = max(last[at.Partition], at.Offset)
		}
	}
	return last
}

// allStable reports whether all that the service reported as sent is below the stable offsets. If a
// position is not known, that is so when no transaction is open.
func (a *audit) allStable(last map[int32]int64) bool {
	if a.unplaced() {
		for _, ends := range a.ends {
			if ends.stable < ends.end {
				return false
			}
		}
	}
	for p, offset := range last {
		if offset >= a.ends[p].stable {
			return false
		}
	}
	return true
}

// unplaced reports whether the service reported a payment as sent without its position.
func (a *audit) unplaced() bool {
	for _, p := range a.payments {
		if p.sent && p.position == nil {
			return true
		}
	}
	return false
}
