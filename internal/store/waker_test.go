package store_test

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// TestWaker_Burst: ten thousand creates by twenty goroutines while one notification is under way.
// All of them together may make one more, and it must name every partition: NOTIFY takes a lock of
// the whole server's. The test holds the first notification by a channel.
func TestWaker_Burst(t *testing.T) {
	t.Parallel()
	const goroutines, each = 20, 500
	payloads, release := make(chan string, goroutines*each), make(chan struct{})
	waker := store.NewWaker(func(_ context.Context, payload string) {
		payloads <- payload
		<-release
	})
	waker.Wake(0)
	if got := receive(t, payloads); got != "0" {
		t.Errorf("the first notification is %q, want that it comes at once and names partition 0", got)
	}
	var burst sync.WaitGroup
	for g := range goroutines {
		burst.Go(func() {
			for range each {
				waker.Wake(int32(g))
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
	waker.Wake(3)
	if got := receive(t, payloads); got != "3" {
		t.Errorf("the third notification is %q, want partition 3 alone: the others were named", got)
	}
	close(release)
	waker.Close()
	if left := len(payloads); left != 0 {
		t.Errorf("%d notifications more, want none", left)
	}
}

// TestWaker_Close shows that closing ends the notification that is under way and waits for it.
func TestWaker_Close(t *testing.T) {
	t.Parallel()
	begun, ended := make(chan struct{}), make(chan struct{})
	waker := store.NewWaker(func(ctx context.Context, _ string) {
		close(begun)
		<-ctx.Done()
		close(ended)
	})
	waker.Wake(1)
	receive(t, begun)
	waker.Close()
	select {
	case <-ended:
	default:
		t.Error("Close did not wait for the notification")
	}
	waker.Wake(2) // A create that comes late does no harm.
}

// listen returns a connection that hears what other processes are told.
func (f *fixture) listen() *pgx.Conn {
	f.t.Helper()
	conn, err := pgx.Connect(f.t.Context(), f.url)
	if err != nil {
		f.t.Fatal(err)
	}
	// The test's own context has ended by then.
	f.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	if _, err := conn.Exec(f.t.Context(), `listen `+store.WakeChannel); err != nil {
		f.t.Fatal(err)
	}
	return conn
}

// TestWaker_EveryPartitionIsNamed: 300 concurrent creates over 12 partitions, by two replicas. A
// listener hears of each partition that got a payment, and of no other, in fewer notifications than
// there were creates.
func TestWaker_EveryPartitionIsNamed(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	conn := f.listen()
	const creates = 300
	payments := make([]payment.Payment, creates)
	for i := range payments {
		// None for partition 11.
		payments[i] = f.inPartition("order-"+strconv.Itoa(i), int32(i%11), 12)
	}
	for _, o := range createAtOnce(t.Context(), []*store.Store{f.Store, openStore(t, f.url)}, payments) {
		if o.err != nil {
			t.Fatal(o.err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitMost)
	defer cancel()
	named, notifications := map[string]bool{}, 0
	for len(named) < 11 {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			t.Fatalf("heard of %d partitions only: %v", len(named), err)
		}
		notifications++
		for p := range strings.SplitSeq(n.Payload, ",") {
			if p != "" { // A wake whose partition the notification before had taken along.
				named[p] = true
			}
		}
	}
	if named["11"] {
		t.Error("a partition without a payment was named")
	}
	t.Logf("%d creates made %d notifications until all partitions were named", creates, notifications)
	if notifications >= creates {
		t.Errorf("%d creates made %d notifications", creates, notifications)
	}
}

// TestSession_OnCreated: while the owner of a partition is in this process it is told at once and
// no other process is; what another partition gets, or another process stores, goes round by
// notification, and after Close all does.
func TestSession_OnCreated(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	elsewhere := openStore(t, f.url)
	told := make(chan struct{}, 1)
	session := f.own(0)
	session.OnCreated(func() { told <- struct{}{} })
	conn := f.listen()
	ctx, cancel := context.WithTimeout(t.Context(), waitMost)
	defer cancel()
	create := func(s *store.Store, key string, partition int32) {
		t.Helper()
		if _, _, err := s.Create(ctx, f.inPartition(key, partition, 2)); err != nil {
			t.Fatal(err)
		}
	}
	hears := func(want string) {
		t.Helper()
		n, err := conn.WaitForNotification(ctx)
		if err != nil || n.Payload != want {
			t.Fatalf("other processes are told %v, %v; want partitions %q", n, err, want)
		}
	}
	create(f.Store, "here", 0)
	receive(t, told)
	create(f.Store, "other-partition", 1)
	hears("1") // And not 0 before it.
	create(elsewhere, "elsewhere", 0)
	hears("0")
	session.Close()
	create(f.Store, "closed", 0)
	hears("0")
	if len(told) > 0 {
		t.Error("the owner was told of payments that another process stored, or after Close")
	}
}
