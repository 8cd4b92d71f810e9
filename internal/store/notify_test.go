package store_test

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// listen returns a connection that receives what other processes receive.
func (f *fixture) listen() *pgx.Conn {
	f.t.Helper()
	conn, err := pgx.Connect(f.t.Context(), f.url)
	if err != nil {
		f.t.Fatal(err)
	}
	// The test's own context has ended by then.
	f.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	if _, err := conn.Exec(f.t.Context(), `listen `+store.NotifyChannel); err != nil {
		f.t.Fatal(err)
	}
	return conn
}

// TestStore_Notify_EveryPartitionIsNamed: two replicas make 300 concurrent creates over 12
// partitions. A listener is notified of each partition that got a payment, and of no other. There
// are fewer notifications than creates.
func TestStore_Notify_EveryPartitionIsNamed(t *testing.T) {
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
			t.Fatalf("notified of %d partitions, want 11: %v", len(named), err)
		}
		notifications++
		for p := range strings.SplitSeq(n.Payload, ",") {
			if p != "" { // The notification before had named its partition, too.
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

// TestSession_OnCreated: while the owner of a partition is in this process, it is called at once,
// and no other process is notified. Payments of another partition, or stored by another process,
// are notified. After Close all are.
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
			t.Fatalf("other processes got %v, %v; want partitions %q", n, err, want)
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
		t.Error("the owner was called for payments that another process stored, or after Close")
	}
}
