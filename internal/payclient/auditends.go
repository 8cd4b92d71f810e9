package payclient

import (
	"context"
	"time"
)

const (
	// secondLookAfter is the time between the first look at the ends of the topic and the last. Within it a marker that
	// is late arrives, and a new leader learns its high watermark (KIP-207).
	secondLookAfter = 5 * time.Second
	// lookPace is the time between two looks: a marker follows its transaction within milliseconds.
	lookPace = 100 * time.Millisecond
)

// logEnds says how far the log of a partition goes.
type logEnds struct {
	start  int64 // the first offset that is still there
	stable int64 // below it every transaction is decided
	end    int64 // the high watermark; never below stable
}

// ends reads how far each partition goes.
func (r *topicReader) ends(ctx context.Context) (map[int32]logEnds, error) {
	starts, err := r.starts(ctx)
	if err != nil {
		return nil, err
	}
	stable, err := r.stableEnds(ctx)
	if err != nil {
		return nil, err
	}
	highs, err := r.highWatermarks(ctx) // After the stable ends, so never below them.
	if err != nil {
		return nil, err
	}
	ends := make(map[int32]logEnds, len(stable))
	for p := range stable {
		ends[p] = logEnds{starts[p], stable[p], highs[p]}
	}
	return ends, nil
}

// awaitEnds reads the ends of the topic after the service was asked, so that all that it said was sent is below the
// stable ends. Where it is not, it looks again until secondLookAfter has passed: judge says what that means.
func (a *audit) awaitEnds(ctx context.Context, reader *topicReader) (err error) {
	last := a.lastOffsets()
	a.ends, err = reader.ends(ctx)
	first := time.Now()
	for final := false; err == nil && !final && !a.allStable(last); {
		if err := sleep(ctx, lookPace); err != nil {
			return err
		}
		final = time.Since(first) >= secondLookAfter
		a.ends, err = reader.ends(ctx)
	}
	return err
}

// lastOffsets returns the last offset at which the service says a payment is, for each partition with one.
func (a *audit) lastOffsets() map[int32]int64 {
	last := map[int32]int64{}
	for _, p := range a.payments {
		if at := p.position; at != nil && at.Topic == a.topic {
			last[at.Partition] = max(last[at.Partition], at.Offset)
		}
	}
	return last
}

func (a *audit) allStable(last map[int32]int64) bool {
	for p, offset := range last {
		if offset >= a.ends[p].stable {
			return false
		}
	}
	return true
}
