package notify_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paylatch/paylatch/internal/notify"
)

// receiveMost bounds the wait of receive, so that a failure ends the test.
const receiveMost = time.Minute

func receive[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(receiveMost):
		t.Fatal("nothing was received")
	}
	return v
}

// TestNotifier_Burst: twenty goroutines note ten thousand creates while one notification is in
// progress. All of them together may make one more, and it must name every partition: NOTIFY takes
// a lock of the whole server. The test holds the first notification by a channel.
func TestNotifier_Burst(t *testing.T) {
	t.Parallel()
	const goroutines, each = 20, 500
	payloads, release := make(chan string, goroutines*each), make(chan struct{})
	notifier := notify.New(func(_ context.Context, payload string) {
		payloads <- payload
		<-release
	})
	notifier.Created(0)
	if got := receive(t, payloads); got != "0" {
		t.Errorf("the first notification is %q, want that it comes at once and names partition 0", got)
	}
	var burst sync.WaitGroup
	for g := range goroutines {
		burst.Go(func() {
			for range each {
				notifier.Created(int32(g))
			}
		})
	}
	burst.Wait()
	release <- struct{}{}
	named := map[string]bool{}
	for p := range strings.SplitSeq(receive(t, payloads), ",") {
		named[p] = true
	}
	if len(named) != goroutines {
		t.Errorf("the second notification names %d partitions, want %d", len(named), goroutines)
	}
	release <- struct{}{}
	notifier.Created(3)
	if got := receive(t, payloads); got != "3" {
		t.Errorf("the third notification is %q, want partition 3 alone: the others were named", got)
	}
	close(release)
	notifier.Close()
	if left := len(payloads); left != 0 {
		t.Errorf("%d notifications more, want none", left)
	}
}

// TestNotifier_Close: closing cancels the notification in progress and waits for it.
func TestNotifier_Close(t *testing.T) {
	t.Parallel()
	begun, ended := make(chan struct{}), make(chan struct{})
	notifier := notify.New(func(ctx context.Context, _ string) {
		close(begun)
		<-ctx.Done()
		close(ended)
	})
	notifier.Created(1)
	receive(t, begun)
	notifier.Close()
	select {
	case <-ended:
	default:
		t.Error("Close did not wait for the notification")
	}
	notifier.Created(2) // A late create does no harm.
}

// TestNotifier_Subscribe: the owner of a partition is called instead of other processes, until it
// unsubscribes. The end of an earlier subscription leaves a later one alone.
func TestNotifier_Subscribe(t *testing.T) {
	t.Parallel()
	payloads, calls := make(chan string, 10), make(chan string, 10)
	notifier := notify.New(func(_ context.Context, payload string) { payloads <- payload })
	defer notifier.Close()
	first := notifier.Subscribe(3, func() { calls <- "first" })
	notifier.Created(3)
	if got := receive(t, calls); got != "first" {
		t.Errorf("called the %s owner, want the first", got)
	}
	second := notifier.Subscribe(3, func() { calls <- "second" })
	first()
	notifier.Created(3)
	if got := receive(t, calls); got != "second" {
		t.Errorf("called the %s owner, want the second", got)
	}
	second()
	notifier.Created(3)
	if got := receive(t, payloads); got != "3" || len(calls) > 0 {
		t.Errorf("sent %q and called %d owners, want 3 and none", got, len(calls))
	}
}

// TestPartitions: a payload names partitions, and anything else in it is ignored.
func TestPartitions(t *testing.T) {
	t.Parallel()
	for payload, want := range map[string][]int32{
		"": nil, "7": {7}, "3,7": {3, 7}, "x,1": {1}, "99999999999": nil,
	} {
		if got := notify.Partitions(payload); !slices.Equal(got, want) {
			t.Errorf("Partitions(%q) = %v, want %v", payload, got, want)
		}
	}
}
