package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// inLog returns the payments as they are found in the log, at offsets from base: as Decode returns
// them, without the tenant's id.
func inLog(payments []payment.Payment, base int64) []payment.Payment {
	found := slices.Clone(payments)
	for i := range found {
		found[i].Tenant.ID, found[i].Status = 0, ""
		found[i].Emission = &payment.Emission{
			At: time.Date(2026, 11, 24, 12, 0, i, 0, time.UTC), Topic: topic,
			Offset: base + int64(i),
		}
	}
	return found
}

// recover brings what was found into the table, in a claim of its own, and commits.
func (f *fixture) recover(found []payment.Payment, next int64, passOver bool) store.Recovered {
	f.t.Helper()
	session := f.ownSoon(f.Store, 0)
	defer session.Close()
	claim := f.claim(session, 0)
	r, err := claim.Recover(f.t.Context(), found, next, passOver)
	if err == nil {
		err = claim.Commit(f.t.Context())
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

func (r reading) want(f *fixture) {
	f.t.Helper()
	if r.got.Marked != r.marked || r.got.Restored != r.restored || r.got.Repeated != r.repeated ||
		len(r.got.UnexpectedReasons) != r.strange {
		f.t.Errorf("recovered %+v, want %d marked, %d restored, %d repeated, %d strange", r.got, r.marked, r.restored,
			r.repeated, r.strange)
	}
}

type reading struct {
	got                                 store.Recovered
	marked, restored, repeated, strange int
}

// TestRecover_Marks: payments that the log has and the table has not marked are marked where they
// are. The rest waits. Reading the same again changes nothing.
func TestRecover_Marks(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	payments := f.createMany(6)
	found := inLog(payments[:4], 7)
	reading{f.recover(found, 12, false), 4, 0, 0, 0}.want(f)
	wantEmission(f, payments, 7, 4, 12)
	reading{f.recover(found, 12, false), 0, 0, 0, 0}.want(f)
	wantEmission(f, payments, 7, 4, 12)
	reading{f.recover(nil, 20, false), 0, 0, 0, 0}.want(f)
	wantEmission(f, payments, 7, 4, 20)
}

// TestRecover_RolledBack: without a commit there is no change.
func TestRecover_RolledBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	payments := f.createMany(2)
	claim := f.claim(f.own(0), 0)
	if _, err := claim.Recover(t.Context(), inLog(payments, 0), 3, false); err != nil {
		t.Fatal(err)
	}
	claim.Rollback()
	wantEmission(f, payments, 0, 0, 0)
}

// wholeRows selects all that is stored of all payments, except for the ids of parties and accounts.
const wholeRows = `select md5(string_agg(whole::text, ',' order by seq)) from (
	select p.id, p.tenant_id, amount, currency, reference, trace_context, partition, seq, status, p.created_at, sent_at,
	kafka_offset,
		o.party_id, o.name, b.party_id, b.name, s.type, s.number, r.type, r.number
	from payments p join parties o on o.id = originator_id join parties b on b.id = beneficiary_id
		join accounts s on s.id = sender_id join accounts r on r.id = receiver_id) as whole`

// TestRecover_Restores: rows that the table has lost, with all parties and accounts, are put back
// with their contents, and as sent. Payments that are created from then on come after them.
func TestRecover_Restores(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	f.create(f.payment("bare", func(c *payment.Content) { c.Reference = nil }))
	traced := f.payment("traced", func(c *payment.Content) { c.Originator.Name = "Zoë" })
	traced.TraceParent = payment.ParseTraceParent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	f.create(traced)
	f.createMany(3)
	var payments []payment.Payment
	for _, id := range query[[][16]byte](f, `select array_agg(id order by seq) from payments`) {
		payments = append(payments, f.find(payment.ID(id)))
	}
	found := inLog(payments, 3)
	f.recover(found, 9, false)
	// As restored rows have it: the log's time, but not before they were created.
	f.tamper(`update payments set sent_at = greatest(created_at,
		'2026-11-24T12:00:00Z'::timestamptz + (kafka_offset - 3) * interval '1 second')`)
	before := query[string](f, wholeRows)

	f.tamper(`truncate payments`)
	f.exec(`alter table parties disable trigger all`)
	f.exec(`alter table accounts disable trigger all`)
	f.exec(`delete from parties`)
	f.exec(`delete from accounts`)
	f.exec(`update topic_partitions set next_offset = 0`)
	f.exec(`select setval('payments_seq', 1, false)`)
	f.Store = openStore(t, f.url) // One that remembers no parties.
	reading{f.recover(found, 9, false), 0, len(payments), 0, 0}.want(f)
	if after := query[string](f, wholeRows); after != before {
		t.Error("the rows are not what they were")
	}
	if p := f.create(f.payment("new")); p.Seq <= payments[len(payments)-1].Seq {
		t.Errorf("a new payment has seq %d, the last that was put back %d", p.Seq, payments[len(payments)-1].Seq)
	}
}

// TestRecover_Repeated: a record of a payment that the log has at an earlier offset is counted, and
// changes nothing.
func TestRecover_Repeated(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	payments := f.createMany(3)
	f.recover(inLog(payments[:1], 0), 2, false)
	found := append(inLog(payments, 2), inLog(payments[1:2], 9)...)
	reading{f.recover(found, 11, false), 2, 0, 2, 0}.want(f)
	if p := f.find(payments[0].ID); p.Emission.Offset != 0 {
		t.Errorf("the first is marked at %d, where its second record is", p.Emission.Offset)
	}
	if p := f.find(payments[1].ID); p.Emission.Offset != 3 {
		t.Errorf("the second is marked at %d", p.Emission.Offset)
	}
}

// TestRecover_Unexpected: unexpected records are reported, and nothing is written. If an operator
// passes over them, the rest is written.
func TestRecover_Unexpected(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		bend func(f *fixture, p *payment.Payment)
		word string
	}{
		"UnknownTenant": {func(_ *fixture, p *payment.Payment) { p.Tenant.Name = "nobody" }, "does not know"},
		"OtherTenant": {
			func(f *fixture, p *payment.Payment) { p.Tenant = f.newTenant("other").TenantRef },
			"its row of",
		},
		"OtherPartition": {func(f *fixture, p *payment.Payment) {
			f.tamper(`update payments set partition = 1 where id = $1`, [16]byte(p.ID))
		}, "partition 1 by its row"},
		"OtherAmount": {func(_ *fixture, p *payment.Payment) { p.Money.Minor++ }, "differs from its row"},
		"MarkedElsewhere": {func(f *fixture, p *payment.Payment) {
			f.exec(`update payments set status = 'sent', sent_at = now(), kafka_offset = 99 where id = $1`,
				[16]byte(p.ID))
		}, "marked at offset 99"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, 2)
			var payments []payment.Payment
			for _, key := range []string{"a", "b", "c"} {
				payments = append(payments, f.create(f.inPartition(key, 0, 2)))
			}
			found := inLog(payments, 0)
			row.bend(f, &found[1])
			got := f.recover(found, 4, false)
			reading{got, 0, 0, 0, 1}.want(f)
			if len(got.UnexpectedReasons) == 1 && !strings.Contains(got.UnexpectedReasons[0], row.word) {
				t.Errorf("got the reason %q, want %q in it", got.UnexpectedReasons[0], row.word)
			}
			wantEmission(f, payments[:1], 0, 0, 0)
			reading{f.recover(found, 4, true), 2, 0, 0, 1}.want(f)
			wantEmission(f, payments[:1], 0, 1, 4)
			wantEmission(f, payments[2:], 2, 1, 4)
		})
	}
}

// TestRecover_CreatedConcurrently: a client's retry creates a lost payment again while it is being
// put back. The recovery fails, and the next one marks it.
func TestRecover_CreatedConcurrently(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	payments := f.createMany(1)
	f.tamper(`truncate payments`)
	retry := f.begin()
	if _, err := retry.Exec(t.Context(), `insert into payments (id, tenant_id, amount, currency, originator_id,
		beneficiary_id, sender_id, receiver_id, reference, partition)
		select $1, t.id, 25687, 'USD', o.id, b.id, s.id, r.id, 'INV-7', 0
		from tenants t, parties o, parties b, accounts s, accounts r
		where o.party_id = '567' and b.party_id = '123' and s.type = 'checking'
		and r.type = 'iban'`, [16]byte(payments[0].ID)); err != nil {
		t.Fatal(err)
	}
	claim := f.claim(f.own(0), 0)
	result := make(chan error, 1)
	go func() {
		_, err := claim.Recover(t.Context(), inLog(payments, 0), 2, false)
		result <- err
	}()
	f.awaitBlocked(1)
	if err := retry.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, result); err == nil || !strings.Contains(err.Error(), "created again at the same time") {
		t.Fatalf("error %v", err)
	}
	claim.Rollback()
	f.terminate()
	reading{f.recover(inLog(payments, 0), 2, false), 1, 0, 0, 0}.want(f)
}

// TestPresence_ByDelivery: replicas share partitions with those of their own delivery only.
func TestPresence_ByDelivery(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	for delivery, n := range map[store.Delivery]int{store.DeliveryLocked: 1, store.DeliveryFenced: 2} {
		for range n {
			p, err := f.Register(t.Context(), delivery)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(p.Deregister)
		}
	}
	for delivery, want := range map[store.Delivery]int{store.DeliveryLocked: 2, store.DeliveryFenced: 3} {
		p, err := f.Register(t.Context(), delivery)
		if err != nil {
			t.Fatal(err)
		}
		if members := f.observe(p); members.Replicas != want {
			t.Errorf("%s: %d replicas, want %d", delivery, members.Replicas, want)
		}
		p.Deregister()
	}
}

// TestOperate: an operator's claim waits for the batch in progress, and what it decides is on
// record with its commit.
func TestOperate(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	payments := f.createMany(5)
	f.recover(inLog(payments[:3], 0), 4, false)
	pass := f.claim(f.own(0), 2)
	session, err := f.Operate(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(session.Close)
	waited := make(chan error, 1)
	var claim *store.Claim
	go func() {
		var err error
		claim, err = session.ClaimWaiting(t.Context())
		waited <- err
	}()
	f.awaitBlocked(1)
	pass.Rollback()
	if err := receive(t, waited); err != nil {
		t.Fatal(err)
	}
	if n, err := claim.Unsent(t.Context()); n != 2 || err != nil {
		t.Errorf("%d unsent, %v", n, err)
	}
	if n, err := claim.UnmarkFrom(t.Context(), 1); n != 2 || err != nil {
		t.Errorf("%d marks taken back, %v", n, err)
	}
	id := claim.Partition.TopicID
	for _, err := range []error{
		claim.CountTakeover(t.Context()), claim.SetDelivery(t.Context(), store.DeliveryFenced),
		claim.Halt(t.Context(), "x"), claim.ResumeAt(t.Context(), id, 1),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if err := claim.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantEmission(f, payments, 0, 1, 1)
	all, err := f.Partitions(t.Context())
	if p := all[0]; err != nil || p.Generation != 2 || p.Delivery != store.DeliveryFenced ||
		p.State != store.StateActive || p.Reason != "" {
		t.Errorf("the partition is %+v, %v", p, err)
	}
	session, err = f.Operate(t.Context(), 7)
	if err == nil {
		defer session.Close()
		_, err = session.ClaimWaiting(t.Context())
	}
	if !errors.Is(err, store.ErrNoPartition) {
		t.Errorf("no such partition: %v", err)
	}
}

// TestAwaitEnd: each replica's peer is the next one. AwaitEnd returns as soon as the peer's session
// ends, and not before.
func TestAwaitEnd(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	alone := f.register()
	if n := f.observe(alone).Peer; n != 0 {
		t.Errorf("the only replica has %d for a peer", n)
	}
	other := f.register()
	peer := f.observe(alone).Peer
	if peer != other.Conn().PgConn().PID() || f.observe(other).Peer != alone.Conn().PgConn().PID() {
		t.Fatalf("the two are not each other's peers: %d", peer)
	}
	ended := make(chan error, 1)
	go func() { ended <- f.AwaitEnd(t.Context(), peer) }()
	f.awaitBlocked(1)
	f.exec(`select pg_terminate_backend($1)`, int(peer))
	if err := receive(t, ended); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- f.AwaitEnd(ctx, alone.Conn().PgConn().PID()) }()
	f.awaitBlocked(1)
	cancel()
	if err := receive(t, ended); err == nil {
		t.Error("AwaitEnd returned nil although the peer lives")
	}
}

// TestAwaitEnd_Vacuum: a replica watches its peer for weeks. That must not hold back vacuum in the
// whole database: the oldest transaction that its session still needs to see advances.
func TestAwaitEnd_Vacuum(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	peer := f.register().Conn().PgConn().PID()
	ended := make(chan error, 1)
	go func() { ended <- f.AwaitEnd(t.Context(), peer) }()
	f.awaitBlocked(1)
	waiting := query[int](f, `select pid from pg_stat_activity where datname = current_database()
		and application_name = 'paylatch sender' and pid <> $1`, int(peer))
	later := query[int](f, `select pg_current_xact_id()::text::bigint`)
	f.await("the waiting session to need no row that was dead before", func() bool {
		return query[bool](f, `select coalesce(backend_xmin::text::bigint > $1, true) from pg_stat_activity
			where pid = $2`, later, waiting)
	})
	f.awaitBlocked(1) // It waits all the same.
	select {
	case err := <-ended:
		t.Fatalf("it no longer waits: %v", err)
	default:
	}
	f.exec(`select pg_terminate_backend($1)`, int(peer))
	if err := receive(t, ended); err != nil {
		t.Error(err)
	}
}

// TestRecover_Together: after a restore all partitions are taken over at once, and each puts back
// thousands of rows. None may wait until another has committed, or most would fail and start again.
func TestRecover_Together(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 3)
	var payments []payment.Payment
	for partition := range int32(3) {
		payments = append(payments, f.create(f.inPartition(fmt.Sprint("order-", partition), partition, 3)))
	}
	last := payments[2].Seq
	f.tamper(`truncate payments`)
	f.exec(`select setval('payments_seq', 1, false)`)
	var open []*store.Claim
	for partition, p := range payments {
		claim := f.claim(f.own(int32(partition)), 0)
		r, err := claim.Recover(t.Context(), inLog([]payment.Payment{p}, 0), 2, false)
		if err != nil || r.Restored != 1 {
			t.Fatalf("partition %d: %+v, %v", partition, r, err)
		}
		open = append(open, claim)
	}
	if p := f.create(f.payment("new")); p.Seq <= last {
		t.Errorf("a new payment has seq %d, the last that is put back %d", p.Seq, last)
	}
	for _, claim := range open {
		if err := claim.Commit(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestUnmarkFrom_LargeTable: no index serves UnmarkFrom, so it takes minutes on a large table. It
// must not be ended by the session's statement timeout for batches, or by the timeout of the wait
// for the batch in progress.
func TestUnmarkFrom_LargeTable(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	f.recover(inLog(f.createMany(3), 0), 4, false)
	f.exec(`create table seen (most interval)`)
	f.exec(`create function note() returns trigger language plpgsql as $$ begin insert into seen
		values (current_setting('statement_timeout')::interval); return null; end $$`)
	f.exec(`create trigger note before update on payments for each statement execute function note()`)
	session, err := f.Operate(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	claim, err := session.ClaimWaiting(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := claim.UnmarkFrom(t.Context(), 1); n != 2 || err != nil {
		t.Fatalf("%d marks taken back, %v", n, err)
	}
	if err := claim.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if most := query[time.Duration](f, `select max(most) from seen`); most < 10*time.Minute {
		t.Errorf("the statement is ended after %s", most)
	}
}
