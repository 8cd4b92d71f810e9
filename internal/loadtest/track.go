package loadtest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/paylatch/paylatch/internal/journal"
	"github.com/paylatch/paylatch/internal/sleep"
)

const (
	// awaitedMax bounds the payments that have a response and are not visible yet: some 60 MB.
	// Senders that stand still at 2,000 payments per second reach it in eight minutes.
	awaitedMax = 1_000_000
	// earlyMax bounds the records that come before the response to their create. A record stays
	// that long only if it is that of another client.
	earlyMax = 100_000
	// settlePause is how often the end of a load checks whether all payments are visible.
	settlePause = 10 * time.Millisecond
	// missingShown bounds the missing payments that a report names.
	missingShown = 20
	// fetchBytesMax bounds one response of a broker.
	fetchBytesMax = 4 << 20
	// fetchPause is the pause after an error of the topic.
	fetchPause = 100 * time.Millisecond
)

// EndToEnd is how long payments took from when their POST was planned until a read_committed
// consumer had them. Both times are from the clock of the load generator.
type EndToEnd struct {
	Topic   string  `json:"topic"`
	Latency Latency `json:"latency"`
	// Missing counts the payments that were not visible when the wait was over.
	Missing int64 `json:"missing"`
	// MissingIDs names the first of them.
	MissingIDs []string `json:"missing_ids,omitempty"`
	// Untracked counts the payments that were not waited for: too many others were.
	Untracked int64 `json:"untracked"`
	// Waited is the time, after the load, for the last payments.
	Waited time.Duration `json:"waited_ns"`
	// Errors are the first errors of reading the topic.
	Errors []string `json:"errors,omitempty"`
}

// tracker matches responses with records, whichever comes first.
type tracker struct {
	reader  *journal.TopicReader
	visible func(step int, now time.Time, took time.Duration)
	ended   chan struct{}
	end     context.CancelFunc

	mu      sync.Mutex
	awaited map[uuid.UUID]awaitedPayment
	early   map[uuid.UUID]time.Time
	// earlyOrder is a ring of the keys that were added to early.
	earlyOrder []uuid.UUID
	earlyNext  int
	untracked  int64
	errors     []string
}

type awaitedPayment struct {
	planned time.Time
	step    int
}

func newTracker(visible func(int, time.Time, time.Duration)) *tracker {
	return &tracker{visible: visible, awaited: map[uuid.UUID]awaitedPayment{}, early: map[uuid.UUID]time.Time{}}
}

// track reads the topic from its present end until the tracker is closed.
func track(
	ctx context.Context, topic journal.Topic, visible func(int, time.Time, time.Duration),
) (*tracker, error) {
	listing, err := topic.Open()
	if err != nil {
		return nil, err
	}
	defer listing.Close()
	ends, err := listing.StableOffsets(ctx)
	if err != nil {
		return nil, err
	}
	from := map[int32]kgo.Offset{}
	for p, end := range ends {
		from[p] = kgo.NewOffset().At(end)
	}
	t := newTracker(visible)
	t.ended = make(chan struct{})
	t.reader, err = topic.Open(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic.Name: from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), // The default shows aborted records.
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),  // A log that was truncated or recreated is an error.
		kgo.FetchMaxBytes(fetchBytesMax),
	)
	if err != nil {
		return nil, err
	}
	// The load goes on counting visible payments after it was interrupted.
	reading, end := context.WithCancel(context.WithoutCancel(ctx))
	t.end = end
	go t.read(reading)
	return t, nil
}

func (t *tracker) read(ctx context.Context) {
	defer close(t.ended)
	for {
		fetches := t.reader.Client.PollFetches(ctx)
		if ctx.Err() != nil {
			return
		}
		now := time.Now()
		fetches.EachError(func(_ string, partition int32, err error) {
			t.keepError(fmt.Sprintf("partition %d: %v", partition, err))
		})
		fetches.EachRecord(func(r *kgo.Record) { t.record(r.Key, now) })
		if fetches.Err() != nil {
			_ = sleep.For(ctx, fetchPause) // The loop sees if ctx ended.
		}
	}
}

// close ends the reading.
func (t *tracker) close() {
	t.end()
	<-t.ended
	t.reader.Close()
}

func (t *tracker) keepError(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.errors) < errorsShown {
		t.errors = append(t.errors, text)
	}
}

// created takes a payment whose create has its response. Its record may have come before.
func (t *tracker) created(id string, step int, planned time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key, err := uuid.Parse(id)
	if err != nil || len(t.awaited) >= awaitedMax {
		t.untracked++
		return
	}
	if at, ok := t.early[key]; ok {
		delete(t.early, key)
		t.visible(step, at, at.Sub(planned))
		return
	}
	t.awaited[key] = awaitedPayment{planned, step}
}

// record takes a record of the topic. It ignores those that are not of payments.
func (t *tracker) record(recordKey []byte, now time.Time) {
	key, err := uuid.ParseBytes(recordKey)
	if err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if p, ok := t.awaited[key]; ok {
		delete(t.awaited, key)
		t.visible(p.step, now, now.Sub(p.planned))
		return
	}
	t.early[key] = now
	if len(t.earlyOrder) < earlyMax {
		t.earlyOrder = append(t.earlyOrder, key)
		return
	}
	delete(t.early, t.earlyOrder[t.earlyNext])
	t.earlyOrder[t.earlyNext] = key
	t.earlyNext = (t.earlyNext + 1) % earlyMax
}

// settle waits until all payments are visible, or the wait is over. It returns everything but the
// latencies.
func (t *tracker) settle(ctx context.Context, wait time.Duration) *EndToEnd {
	began := time.Now()
	for t.outstanding() > 0 && time.Since(began) < wait && sleep.For(ctx, min(settlePause, wait)) == nil {
	}
	waited := time.Since(began)
	t.mu.Lock()
	defer t.mu.Unlock()
	e := &EndToEnd{Missing: int64(len(t.awaited)), Untracked: t.untracked, Waited: waited, Errors: t.errors}
	for id := range t.awaited {
		if len(e.MissingIDs) == missingShown {
			break
		}
		e.MissingIDs = append(e.MissingIDs, id.String())
	}
	return e
}

// progress returns the line that is shown after the load.
func (t *tracker) progress(elapsed time.Duration) string {
	after := elapsed.Truncate(time.Second)
	return fmt.Sprintf("%v after the load: %d payments are not visible yet", after, t.outstanding())
}

func (t *tracker) outstanding() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.awaited)
}
