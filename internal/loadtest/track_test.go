package loadtest

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/client/clienttest"
	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/journal"
	"github.com/paylatch/paylatch/internal/journal/journaltest"
)

// TestTracker_Matches: responses and records are matched, whichever comes first. The latency counts
// from the planned time.
func TestTracker_Matches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var took []time.Duration
		f := newTracker(func(step int, _ time.Time, d time.Duration) {
			took = append(took, d+time.Duration(step)*time.Hour)
		})
		due := time.Now()
		f.record([]byte("no payment"), due)
		time.Sleep(3 * time.Millisecond)
		f.record([]byte(clienttest.PaymentID(1)), time.Now()) // Before its 202.
		time.Sleep(2 * time.Millisecond)
		f.created(clienttest.PaymentID(1), 0, due)
		f.created(clienttest.PaymentID(2), 1, due)
		time.Sleep(4 * time.Millisecond)
		f.record([]byte(clienttest.PaymentID(2)), time.Now())
		f.record([]byte(clienttest.PaymentID(2)), time.Now()) // A second record is not measured.
		f.created(clienttest.PaymentID(3), 0, due)
		f.created("no id", 0, due)
		if len(took) != 2 || took[0] != 3*time.Millisecond || took[1] != time.Hour+9*time.Millisecond {
			t.Errorf("%v", took)
		}
		if got, want := f.progress(2*time.Second), "2s after the load: 1 payments are not visible yet"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		// The third never comes.
		began := time.Now()
		e := f.settle(t.Context(), time.Minute)
		if e.Missing != 1 || e.MissingIDs[0] != clienttest.PaymentID(3) || e.Untracked != 1 ||
			time.Since(began) < time.Minute || e.Waited < time.Minute {
			t.Errorf("%+v", e)
		}
	})
}

// TestTracker_Bounds: the records of other clients are bounded, and recent ones are kept.
func TestTracker_Bounds(t *testing.T) {
	found := 0
	f := newTracker(func(int, time.Time, time.Duration) { found++ })
	id := func(n int) uuid.UUID { return uuid.UUID{0: byte(n), 1: byte(n >> 8), 2: byte(n >> 16)} }
	for n := range 2*earlyMax + 10 {
		f.record([]byte(id(n).String()), time.Now())
	}
	if len(f.early) != earlyMax || len(f.earlyOrder) != earlyMax {
		t.Errorf("%d early, %d in order", len(f.early), len(f.earlyOrder))
	}
	f.created(id(2*earlyMax+9).String(), 0, time.Now())
	f.created(id(earlyMax+10).String(), 0, time.Now())
	f.created(id(earlyMax+9).String(), 0, time.Now()) // The last one that was dropped.
	if found != 2 || len(f.awaited) != 1 {
		t.Errorf("%d found, %d awaited", found, len(f.awaited))
	}
}

// TestRun_EndToEnd: only records count that are committed after the load began. The first record is
// there before the load, and the fourth one is aborted. The others come before their 202.
func TestRun_EndToEnd(t *testing.T) {
	topic := journaltest.NewTopic(t)
	topic.Send(kgo.TryCommit, 0, clienttest.PaymentID(0), clienttest.PaymentID(99))
	service := clienttest.New()
	service.OnCreate = func(n int) {
		end := kgo.TryCommit
		switch n {
		case 1:
			return
		case 4:
			end = kgo.TryAbort
		}
		topic.Send(end, int32(n%journaltest.Partitions), clienttest.PaymentID(n-1))
	}
	c := journaltest.NewClient(t, nil, service.Serve(t).URL)
	r, err := Run(t.Context(), []*client.Client{c}, Config{
		Steps: []Step{{Rate: 50, For: time.Hour}}, InFlight: 1, Count: 50, Settle: time.Second,
		Topic: &journal.Topic{Brokers: brokers.At(topic.Brokers...), Name: journaltest.Name},
	})
	if err != nil {
		t.Fatal(err)
	}
	e := r.EndToEnd
	if e == nil || e.Topic != "payments" || e.Missing != 2 || int(e.Latency.Count) != service.Payments()-2 ||
		len(e.Errors) > 0 || r.Create.Done < 5 {
		t.Fatalf("%+v of %d payments", e, service.Payments())
	}
	for _, id := range e.MissingIDs {
		if id != clienttest.PaymentID(0) && id != clienttest.PaymentID(3) {
			t.Errorf("missing %s", id)
		}
	}
	if r.Steps[0].EndToEnd != e.Latency ||
		!strings.Contains(r.Failure(), "2 payments were not visible in payments") {
		t.Errorf("%+v; %s", r.Steps, r.Failure())
	}
}

func TestRun_NoTopic(t *testing.T) {
	topic := journaltest.NewTopic(t)
	service := clienttest.New()
	c := journaltest.NewClient(t, nil, service.Serve(t).URL)
	_, err := Run(t.Context(), []*client.Client{c}, Config{
		Workers: 1, Count: 1, Topic: &journal.Topic{Brokers: brokers.At(topic.Brokers...), Name: "others"},
	})
	if err == nil || !strings.Contains(err.Error(), "topic others") || service.Payments() != 0 {
		t.Errorf("%v, %d payments", err, service.Payments())
	}
	if _, err := (journal.Topic{}).Open(); err == nil {
		t.Error("a topic without brokers")
	}
}

// TestTracker_Race: created and record are called concurrently.
func TestTracker_Race(t *testing.T) {
	var n latencies
	var mu sync.Mutex
	f := newTracker(func(_ int, _ time.Time, d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		n.add(d)
	})
	var all sync.WaitGroup
	for i := range 500 {
		all.Go(func() { f.created(clienttest.PaymentID(i), 0, time.Now()) })
		all.Go(func() { f.record([]byte(clienttest.PaymentID(i)), time.Now()) })
	}
	all.Wait()
	if n.count != 500 || f.outstanding() != 0 || len(f.early) != 0 {
		t.Errorf("%d matched, %d outstanding, %d early", n.count, f.outstanding(), len(f.early))
	}
}
