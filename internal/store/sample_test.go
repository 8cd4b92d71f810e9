package store_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/test/parts"
)

const (
	// waitMost bounds all waits of the tests. A test that reaches it fails. It asserts no speed.
	waitMost = 30 * time.Second
	// lookEvery is how often a test checks what it waits for.
	lookEvery = 5 * time.Millisecond
	topic     = "payments"
)

// fixture is a store on the database of one test, with a topic and a tenant, and a pool for the SQL
// of the test.
type fixture struct {
	*store.Store
	t      testing.TB
	url    string
	db     *pgxpool.Pool
	tenant payment.Tenant
}

// newFixture sets up a topic with the given number of partitions; none with 0.
func newFixture(t testing.TB, partitions int) *fixture {
	t.Helper()
	f := &fixture{t: t, url: parts.Postgres(t)}
	f.db = openDB(t, f.url)
	f.Store = openStore(t, f.url)
	f.tenant = f.newTenant("acme")
	if partitions > 0 {
		if err := f.InitPartitions(t.Context(), topic, uuid.New(), store.DeliveryLocked,
			make([]int64, partitions)); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// openStore opens the store of one more replica on the database.
func openStore(t testing.TB, url string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), url, 10)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func openDB(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	db, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

func (f *fixture) newTenant(name string) payment.Tenant {
	f.t.Helper()
	tenant, err := f.CreateTenant(f.t.Context(), name)
	if err != nil {
		f.t.Fatal(err)
	}
	return tenant
}

// content is the valid content that all tests begin with, with the given changes.
func content(changes ...func(*payment.Content)) payment.Content {
	c := payment.Content{
		Amount:      "25687",
		Currency:    "USD",
		Originator:  payment.PartyContent{ID: "567", Name: "Yolanda Quist"},
		Beneficiary: payment.PartyContent{ID: "123", Name: "Xavier Zork"},
		Sender:      payment.AccountContent{Type: "checking", Number: "765543322"},
		Receiver:    payment.AccountContent{Type: "iban", Number: "DE89370400440532013000"},
		Reference:   new("INV-7"),
	}
	for _, change := range changes {
		change(&c)
	}
	return c
}

// payment makes a payment of the tenant with the key.
func (f *fixture) payment(key string, changes ...func(*payment.Content)) payment.Payment {
	f.t.Helper()
	return newPayment(f.t, f.tenant, key, changes...)
}

func newPayment(t testing.TB, tenant payment.Tenant, key string, changes ...func(*payment.Content)) payment.Payment {
	t.Helper()
	k, err := payment.ParseKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p, err := payment.New(tenant, k, content(changes...))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// inPartition makes a payment whose sender account leads to the partition, of the given number of
// partitions.
func (f *fixture) inPartition(key string, partition, of int32) payment.Payment {
	f.t.Helper()
	for number := 1; ; number++ {
		p := f.payment(key, func(c *payment.Content) { c.Sender.Number = strconv.Itoa(number) })
		if payment.PartitionOf(p.PartitionHash, of) == partition {
			return p
		}
	}
}

// create stores p, which must be new.
func (f *fixture) create(p payment.Payment) payment.Payment {
	f.t.Helper()
	stored, replayed, err := f.Create(f.t.Context(), p)
	if err != nil || replayed {
		f.t.Fatalf("create: replayed %t, %v", replayed, err)
	}
	return stored
}

// createMany stores n payments of one account, and so of one partition, in order.
func (f *fixture) createMany(n int) []payment.Payment {
	f.t.Helper()
	made := make([]payment.Payment, n)
	for i := range made {
		made[i] = f.create(f.payment("order-" + strconv.Itoa(i)))
	}
	return made
}

// find returns the payment, which must exist.
func (f *fixture) find(id payment.ID) payment.Payment {
	f.t.Helper()
	p, err := f.Find(f.t.Context(), f.tenant.TenantRef, id)
	if err != nil {
		f.t.Fatalf("find %s: %v", id, err)
	}
	return p
}

// wantSame compares all that is stored of two payments.
func wantSame(t testing.TB, got, want payment.Payment) {
	t.Helper()
	if differs := got.Differences(want); len(differs) > 0 {
		t.Errorf("payment %s differs in %q", got.ID, differs)
	}
	// PartitionHash is how the partition was found; the partition is what is stored.
	g := []any{got.ID, got.Tenant, got.TraceParent, got.Partition, got.Seq, got.Status, got.CreatedAt, got.Emission}
	w := []any{
		want.ID, want.Tenant, want.TraceParent, want.Partition, want.Seq, want.Status, want.CreatedAt,
		want.Emission,
	}
	if !slices.Equal(g, w) {
		t.Errorf("payment is %v, want %v", g, w)
	}
}

// exec executes a statement of the test.
func (f *fixture) exec(sql string, args ...any) {
	f.t.Helper()
	if _, err := f.db.Exec(f.t.Context(), sql, args...); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
}

// role creates a database role that may do nothing, and drops it when the test ends. It returns its
// name. Roles belong to the whole server.
func (f *fixture) role() string {
	f.t.Helper()
	name := "role_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	f.exec(`create role ` + name)
	f.dropAtEnd(name)
	return name
}

// dropAtEnd drops a role, and what it was granted, when the test ends.
func (f *fixture) dropAtEnd(role string) {
	f.t.Cleanup(func() {
		drop := `drop owned by ` + role + `; drop role ` + role
		if _, err := f.db.Exec(context.WithoutCancel(f.t.Context()), drop); err != nil {
			f.t.Error(err)
		}
	})
}

// tamper changes what the triggers of the schema protect; see parts.Tamper.
func (f *fixture) tamper(sql string, args ...any) {
	f.t.Helper()
	if _, err := parts.Tamper(f.t.Context(), f.db, sql, args...); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
}

// query reads one value.
func query[V any](f *fixture, sql string, args ...any) V {
	f.t.Helper()
	var v V
	if err := f.db.QueryRow(f.t.Context(), sql, args...).Scan(&v); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// begin opens a transaction that stands for another process. It is rolled back unless the test
// commits it.
func (f *fixture) begin() pgx.Tx {
	f.t.Helper()
	tx, err := f.db.Begin(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(f.t.Context())) })
	return tx
}

// copyPayment inserts, without the store, a row with the content of another one: what a concurrent
// transaction, or a mix-up, leaves.
const copyPayment = `insert into payments (id, tenant_id, amount, currency, originator_id, beneficiary_id, sender_id,
	receiver_id, reference,
		trace_context, partition)
	select $1, tenant_id, amount, currency, originator_id, beneficiary_id, sender_id, receiver_id, reference,
	trace_context, partition
	from payments where id = $2`

// awaitBlocked waits until so many sessions of the test's database wait for a lock.
func (f *fixture) awaitBlocked(sessions int) {
	f.t.Helper()
	f.await("sessions that wait for a lock", func() bool {
		return query[int](f, `select count(*) from pg_stat_activity where datname = current_database()
			and wait_event_type = 'Lock'`) == sessions
	})
}

// await waits until the condition is true.
func (f *fixture) await(what string, holds func() bool) {
	f.t.Helper()
	eventually(f.t, waitMost, what, holds)
}

func eventually(t testing.TB, most time.Duration, what string, holds func() bool) {
	t.Helper()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	end := time.After(most)
	for !holds() {
		select {
		case <-ticker.C:
		case <-end:
			t.Fatalf("waited %v in vain: %s", most, what)
		}
	}
}

// receive receives from a goroutine.
func receive[V any](t testing.TB, from <-chan V) V {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(waitMost):
		t.Fatalf("nothing was received in %v", waitMost)
		panic("unreachable")
	}
}

// wantUnavailable checks that err is payment.ErrUnavailable and contains the words.
func wantUnavailable(t testing.TB, err error, words ...string) {
	t.Helper()
	if !errors.Is(err, payment.ErrUnavailable) {
		t.Errorf("error is %v, want payment.ErrUnavailable", err)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not say %q", err, word)
		}
	}
}

// constraintOf returns the name of the constraint that err says was violated.
func constraintOf(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.ConstraintName
	}
	return ""
}
