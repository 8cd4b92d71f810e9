package loadtest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/paylatch/paylatch/internal/journal"
)

const (
	// awaitedMax bounds the payments that are answered and not yet visible: some 60 MB. A service whose senders stand still gets that far at 2,000
	// payments per second in eight minutes; further ones are counted and not followed.
	awaitedMax = 1_000_000
	// earlyMax bounds the records whose 202 has not come yet. A payment is there that early for as long as an answer takes; all others are of somebody
	// else's, and are dropped when so many newer ones have come.
	earlyMax = 100_000
	// settleLook is how often the end of a load looks whether all are visible.
	settleLook = 10 * time.Millisecond
	// missingKept is how many payments that never came a report names.
	missingKept = 20
	// fetchBytesMax bounds one response of a broker.
	fetchBytesMax = 4 << 20
	// fetchPause is the pause after an error of the topic.
	fetchPause = 100 * time.Millisecond
)

// EndToEnd is how long payments took from when their POST was due until a read_committed consumer had them. Both moments are by the client's clock.
type EndToEnd struct {
	Topic       string        `json:"topic"`
	Latency     Latency       `json:"latency"`
	Missing     int64         `json:"missing"` // answered 202 and not visible when the wait was over
	MissingIDs  []string      `json:"missing_ids,omitempty"`
	NotFollowed int64         `json:"not_followed"` // answered 202 when too many were awaited already
	Waited      time.Duration `json:"waited_ns"`    // for the last ones, after the load
	Faults      []string      `json:"faults,omitempty"`
}

// follower matches answers with records, whichever comes first.
type follower struct {
	reader  *journal.TopicReader
	visible func(step int, now time.Time, took time.Duration)
	ended   chan struct{}
	end     context.CancelFunc

	mu          sync.Mutex
	awaited     map[uuid.UUID]awaitedPayment
	early       map[uuid.UUID]time.Time
	earlyOrder  []uuid.UUID // a ring of those that have been in early
	earlyNext   int
	notFollowed int64
	faults      []string
}

type awaitedPayment struct {
	due  time.Time
	step int
}

func newFollower(visible func(int, time.Time, time.Duration)) *follower {
	return &follower{visible: visible, awaited: map[uuid.UUID]awaitedPayment{}, early: map[uuid.UUID]time.Time{}}
}

// follow reads the topic from its end as it is now, on and on, until the follower is closed.
func follow(ctx context.Context, topic journal.Topic, visible func(int, time.Time, time.Duration)) (*follower, error) {
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
	f := newFollower(visible)
	f.ended = make(chan struct{})
	f.reader, err = topic.Open(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic.Name: from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), // the default shows aborted records
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),  // a log that was cut or made anew is a fault, not a new start
		kgo.FetchMaxBytes(fetchBytesMax),
	)
	if err != nil {
		return nil, err
	}
	// Of its own: the load goes on counting what becomes visible after it was interrupted.
	reading, end := context.WithCancel(context.WithoutCancel(ctx))
	f.end = end
	go f.read(reading)
	return f, nil
}

func (f *follower) read(ctx context.Context) {
	defer close(f.ended)
	for {
		fetches := f.reader.Client.PollFetches(ctx)
		if ctx.Err() != nil {
			return
		}
		now := time.Now()
		fetches.EachError(func(_ string, partition int32, err error) { f.fault(fmt.Sprintf("partition %d: %v", partition, err)) })
		fetches.EachRecord(func(r *kgo.Record) { f.seen(r.Key, now) })
		if fetches.Err() != nil {
			_ = sleep(ctx, fetchPause) // its end is seen above
		}
	}
}

// close ends the reading.
func (f *follower) close() {
	f.end()
	<-f.ended
	f.reader.Close()
}

func (f *follower) fault(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.faults) < faultsKept {
		f.faults = append(f.faults, text)
	}
}

// answered takes a payment that the service has answered for. Its record may have been seen before.
func (f *follower) answered(id string, step int, due time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key, err := uuid.Parse(id)
	if err != nil || len(f.awaited) >= awaitedMax {
		f.notFollowed++
		return
	}
	if at, ok := f.early[key]; ok {
		delete(f.early, key)
		f.visible(step, at, at.Sub(due))
		return
	}
	f.awaited[key] = awaitedPayment{due, step}
}

// seen takes a record. What is no payment's is none of ours.
func (f *follower) seen(recordKey []byte, now time.Time) {
	key, err := uuid.ParseBytes(recordKey)
	if err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if p, ok := f.awaited[key]; ok {
		delete(f.awaited, key)
		f.visible(p.step, now, now.Sub(p.due))
		return
	}
	f.early[key] = now
	if len(f.earlyOrder) < earlyMax {
		f.earlyOrder = append(f.earlyOrder, key)
		return
	}
	delete(f.early, f.earlyOrder[f.earlyNext])
	f.earlyOrder[f.earlyNext] = key
	f.earlyNext = (f.earlyNext + 1) % earlyMax
}

// settle waits until all that was answered is visible, or the wait is over, and says what there is to say but for the latencies.
func (f *follower) settle(ctx context.Context, wait time.Duration) *EndToEnd {
	began := time.Now()
	for f.outstanding() > 0 && time.Since(began) < wait && sleep(ctx, min(settleLook, wait)) == nil {
	}
	waited := time.Since(began)
	f.mu.Lock()
	defer f.mu.Unlock()
	e := &EndToEnd{Missing: int64(len(f.awaited)), NotFollowed: f.notFollowed, Waited: waited, Faults: f.faults}
	for id := range f.awaited {
		if len(e.MissingIDs) == missingKept {
			break
		}
		e.MissingIDs = append(e.MissingIDs, id.String())
	}
	return e
}

func (f *follower) outstanding() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.awaited)
}
