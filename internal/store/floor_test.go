package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/migrations"
	"github.com/paylatch/paylatch/test/parts"
)

// owning is an owner of partition 0 that sends what there is.
type owning struct {
	*fixture
	session *store.Session
	limit   int
	next    int64
	created int
}

// newOwning is an owner in a fixture of one partition, in the delivery.
func newOwning(t *testing.T, delivery store.Delivery) *owning {
	t.Helper()
	f := newFixture(t, 1)
	f.exec(`update topic_partitions set delivery = $1::text::delivery_mode`, string(delivery))
	return &owning{fixture: f, session: f.own(0), limit: 1000}
}

// send claims payments, marks them, and returns them.
func (o *owning) send() []payment.Payment {
	o.t.Helper()
	claim := o.claim(o.session, o.limit)
	n := int64(len(claim.Payments))
	if err := claim.MarkSent(o.t.Context(), o.next, len(claim.Payments), o.next+n); err != nil {
		o.t.Fatal(err)
	}
	if err := claim.Commit(o.t.Context()); err != nil {
		o.t.Fatal(err)
	}
	o.next += n
	return claim.Payments
}

// createNext stores one more payment.
func (o *owning) createNext() payment.Payment {
	o.t.Helper()
	o.created++
	return o.create(o.payment("next-" + strconv.Itoa(o.created)))
}

// raise creates and sends payments until the floor is above a seq. Other tests on the server have
// transactions that hold it back for a while.
func (o *owning) raise(above int64) {
	o.t.Helper()
	o.await("the floor to rise", func() bool {
		o.createNext()
		o.send()
		return o.session.Floor() > above
	})
}

// wantFound wants the owner to see that there is something to send, and to claim the payment.
func (o *owning) wantFound(id payment.ID) {
	o.t.Helper()
	unsent, err := o.session.HasUnsent(o.t.Context())
	if err != nil || !unsent {
		o.t.Fatalf("a check from %d: %t, %v, want true", o.session.Floor(), unsent, err)
	}
	for _, p := range o.send() {
		if p.ID == id {
			return
		}
	}
	o.t.Errorf("payment %s is not claimed", id)
}

var deliveries = []store.Delivery{store.DeliveryFenced, store.DeliveryLocked}

// TestFloor_Rises: the floor follows what is sent, and what comes later is found. No check takes a
// transaction id.
func TestFloor_Rises(t *testing.T) {
	t.Parallel()
	for _, delivery := range deliveries {
		t.Run(string(delivery), func(t *testing.T) {
			t.Parallel()
			o := newOwning(t, delivery)
			reader := o.begin()
			if _, err := reader.Exec(t.Context(),
				`set transaction isolation level repeatable read; select from payments`); err != nil {
				t.Fatal(err)
			}
			o.raise(0)
			o.raise(o.session.Floor() + 3) // Though the snapshot is open.
			for range 10 {
				if unsent, err := o.session.HasUnsent(t.Context()); unsent || err != nil {
					t.Errorf("a check after all is sent: %t, %v", unsent, err)
				}
			}
			var xid *string
			if err := o.session.Conn().QueryRow(t.Context(),
				`select backend_xid::text from pg_stat_activity where pid = pg_backend_pid()`).Scan(&xid); err != nil ||
				xid != nil {
				t.Errorf("the checks took a transaction id: %v", err)
			}
			o.wantFound(o.createNext().ID)
		})
	}
}

// byGate begins to insert a payment as a create does, through the gate, in the transaction.
func (o *owning) byGate(ctx context.Context, tx pgx.Tx, p payment.Payment) error {
	ids, text := [][16]byte{p.ID}, (*string)(nil)
	_, err := tx.Exec(ctx, store.InsertPaymentsSQL, ids, []int32{p.Tenant.ID}, []int64{1}, []string{"USD"}, []int64{1},
		[]int64{1}, []int64{1}, []int64{1},
		[]*string{text}, [][]byte{nil}, []int16{0}, int16(1))
	return err
}

// TestCreateGate_TakesID: a create has its transaction id before it draws a number, also one of the
// version before, which calls the gate by its former name.
func TestCreateGate_TakesID(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	for _, gate := range []string{"create_gate_is_open", "intake_is_open"} {
		tx := f.begin()
		var open bool
		var before, after *string
		const id = `select pg_current_xact_id_if_assigned()::text`
		err := errors.Join(tx.QueryRow(t.Context(), id).Scan(&before),
			tx.QueryRow(t.Context(), `select `+gate+`(1::smallint)`).Scan(&open),
			tx.QueryRow(t.Context(), id).Scan(&after))
		if err != nil || !open || before != nil || after == nil {
			t.Errorf("%s: open %t, id before %v, after %v, %v", gate, open, before, after, err)
		}
	}
}

// gateWithoutID is the gate as it was before migration 007.
const gateWithoutID = `create or replace function create_gate_is_open(partitions smallint) returns boolean
	language plpgsql volatile
	as $$ begin return pg_try_advisory_xact_lock_shared(1886413923, 0); end $$`

// TestFloor_ConflictingCreate: a create has drawn its number, waits for a transaction that holds
// its key, and stores the payment after that one was rolled back, and after many with greater
// numbers were sent. The control is a gate that takes no transaction id: then the payment is passed
// over. The server is the test's own, so that no other transaction holds the floor back.
func TestFloor_ConflictingCreate(t *testing.T) {
	t.Parallel()
	server := parts.OwnPostgres(t)
	if _, err := store.MigrateUp(t.Context(), server.URL, migrations.FS); err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, url: server.URL, Store: openStore(t, server.URL), db: openDB(t, server.URL)}
	f.tenant = f.newTenant("acme")
	if err := f.InitPartitions(t.Context(), topic, uuid.New(), store.DeliveryFenced, make([]int64, 1)); err != nil {
		t.Fatal(err)
	}
	o := &owning{fixture: f, session: f.own(0), limit: 1000}
	o.createNext()
	if late, drawn := o.conflict("late"); o.session.Floor() > drawn {
		t.Errorf("the floor is %d, above the number %d of a create that is under way", o.session.Floor(), drawn)
	} else {
		late.commit()
		o.wantFound(late.ID)
	}
	o.exec(gateWithoutID)
	late, drawn := o.conflict("later")
	late.commit()
	if unsent, err := o.session.HasUnsent(t.Context()); unsent || err != nil {
		t.Errorf("a gate without a transaction id: found %t, %v, floor %d, number %d: the control is not caught",
			unsent, err, o.session.Floor(), drawn)
	}
}

// lateCreate is a payment whose transaction has yet to commit.
type lateCreate struct {
	payment.Payment
	commit func()
}

// conflict has a create draw its number and then wait for another transaction, which is rolled back
// after three batches. It returns the create, in its transaction, and its number, after three more.
func (o *owning) conflict(key string) (lateCreate, int64) {
	t := o.t
	t.Helper()
	model := o.createNext()
	o.raise(model.Seq)
	late := o.payment(key)
	another, create := o.begin(), o.begin()
	if _, err := another.Exec(t.Context(), copyPayment, uuid.UUID(late.ID), uuid.UUID(model.ID)); err != nil {
		t.Fatal(err)
	}
	created := make(chan error, 1)
	go func() { created <- o.byGate(t.Context(), create, late) }()
	o.awaitBlocked(1)
	drawn := query[int64](o.fixture, `select last_value from payments_seq`)
	o.createNext()
	if _, err := o.session.HasUnsent(t.Context()); err != nil {
		// The owner reads the last value, and then
		t.Fatal(err)
	}
	for range 3 { // takes its id.
		o.createNext()
		o.send()
	}
	if err := another.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, created); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		o.createNext()
		o.send()
	}
	commit := func() {
		t.Helper()
		if err := create.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return lateCreate{late, commit}, drawn
}

// TestFloor_LateCommit: a create is open while payments with greater numbers are sent. The control
// is a floor that does not wait for it.
func TestFloor_LateCommit(t *testing.T) {
	t.Parallel()
	for _, delivery := range deliveries {
		t.Run(string(delivery), func(t *testing.T) {
			t.Parallel()
			o := newOwning(t, delivery)
			o.createNext()
			o.raise(0)
			create, late := o.begin(), o.payment("late")
			if err := o.byGate(t.Context(), create, late); err != nil {
				t.Fatal(err)
			}
			for range 5 {
				o.createNext()
				o.send()
			}
			if err := create.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			floor := o.session.Floor()
			o.session.ForceFloor(query[int64](o.fixture, `select last_value from payments_seq`))
			if unsent, err := o.session.HasUnsent(t.Context()); unsent || err != nil {
				t.Errorf("a floor that does not wait finds the payment: %t, %v: the control is not caught", unsent, err)
			}
			o.session.ForceFloor(floor)
			o.wantFound(late.ID)
		})
	}
}

// TestFloor_Skipped: locked delivery leaves out a payment that another session has locked. The
// floor stays below it.
func TestFloor_Skipped(t *testing.T) {
	t.Parallel()
	o := newOwning(t, store.DeliveryLocked)
	o.createNext()
	o.raise(0)
	var all []payment.Payment
	for range 10 {
		all = append(all, o.createNext())
	}
	o.limit = 1
	for range 4 { // The owner reads the last value, and takes its id, before the row is locked.
		o.send()
	}
	skipped, holder := all[5], o.begin()
	if _, err := holder.Exec(t.Context(), `select from payments where id = $1 for update`,
		[16]byte(skipped.ID)); err != nil {
		t.Fatal(err)
	}
	for _, p := range append(all[4:5:5], all[6:]...) {
		if sent := o.send(); len(sent) != 1 || sent[0].ID != p.ID {
			t.Fatalf("%d payments are claimed, want just payment %d", len(sent), p.Seq)
		}
	}
	if floor := o.session.Floor(); floor > skipped.Seq {
		t.Errorf("the floor is %d, above the skipped %d", floor, skipped.Seq)
	}
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.wantFound(skipped.ID)
}

// operate does an operator's work on partition 0, and commits.
func (o *owning) operate(work func(*store.Claim) error) {
	o.t.Helper()
	session, err := o.Operate(o.t.Context(), 0)
	if err != nil {
		o.t.Fatal(err)
	}
	defer session.Close()
	claim, err := session.ClaimWaiting(o.t.Context())
	if err != nil {
		o.t.Fatal(err)
	}
	defer claim.Rollback()
	if err := work(claim); err != nil {
		o.t.Fatal(err)
	}
	if err := claim.Commit(o.t.Context()); err != nil {
		o.t.Fatal(err)
	}
}

// TestFloor_Resend: payments that an operator has sent again are found, although the floor was
// above them: by a check, and by a claim without one.
func TestFloor_Resend(t *testing.T) {
	t.Parallel()
	for _, delivery := range deliveries {
		t.Run(string(delivery), func(t *testing.T) {
			t.Parallel()
			o := newOwning(t, delivery)
			first := o.createNext()
			for _, check := range []bool{true, false} {
				o.raise(first.Seq)
				o.operate(func(c *store.Claim) error {
					n, err := c.UnmarkFrom(t.Context(), 0)
					if n == 0 {
						t.Error("nothing was unmarked")
					}
					return err
				})
				if check {
					o.wantFound(first.ID)
				} else if sent := o.send(); len(sent) == 0 || sent[0].ID != first.ID {
					t.Errorf("%d payments are claimed, not from the first on", len(sent))
				}
			}
		})
	}
}

// TestFloor_Restored: payments that a takeover has put back, below the floor, and that are then
// sent again by an operator, are found.
func TestFloor_Restored(t *testing.T) {
	t.Parallel()
	o := newOwning(t, store.DeliveryFenced)
	lost := o.createNext()
	o.raise(lost.Seq)
	o.tamper(`delete from payments where id = $1`, [16]byte(lost.ID))
	o.operate(func(c *store.Claim) error {
		r, err := c.Recover(t.Context(), inLog([]payment.Payment{lost}, 0), o.next, false)
		if r.Restored != 1 {
			t.Errorf("%d payments are put back, want 1", r.Restored)
		}
		return err
	})
	o.raise(lost.Seq)
	if unsent, err := o.session.HasUnsent(t.Context()); unsent || err != nil {
		t.Errorf("a payment that was put back is to be sent: %t, %v", unsent, err)
	}
	o.operate(func(c *store.Claim) error {
		_, err := c.UnmarkFrom(t.Context(), 0)
		return err
	})
	o.wantFound(lost.ID)
}

// TestFloor_SequenceSetBack: an administrator sets the sequence back under a live owner.
func TestFloor_SequenceSetBack(t *testing.T) {
	t.Parallel()
	for _, delivery := range deliveries {
		t.Run(string(delivery), func(t *testing.T) {
			t.Parallel()
			o := newOwning(t, delivery)
			first := o.createNext()
			o.raise(first.Seq + 3)
			floor := o.session.Floor()
			o.exec(`select setval('payments_seq', 1, false)`)
			p := o.createNext()
			if p.Seq >= floor {
				t.Fatalf("its number is %d, not below the floor %d: nothing was tested", p.Seq, floor)
			}
			o.wantFound(p.ID)
		})
	}
}

// TestFloor_Work: after 20,000 payments were sent under an open snapshot, which keeps vacuum away,
// a check that finds nothing reads a few pages. The control is a check from the bottom.
func TestFloor_Work(t *testing.T) {
	t.Parallel()
	o := newOwning(t, store.DeliveryFenced)
	o.createNext()
	o.raise(0)
	reader := o.begin()
	if _, err := reader.Exec(t.Context(), `set transaction isolation level repeatable read; select
		from payments`); err != nil {
		t.Fatal(err)
	}
	o.exec(`insert into payments (id, tenant_id, amount, currency, originator_id, beneficiary_id, sender_id,
		receiver_id, partition)
		select gen_random_uuid(), 1, n, 'USD', 1, 1, 1, 1, 0 from generate_series(1, 20000) as n`)
	for len(o.send()) > 0 {
	}
	last := query[int64](o.fixture, `select last_value from payments_seq`)
	o.raise(last)
	if got := o.pagesOfCheck(o.session.Floor()); got > 50 {
		t.Errorf("a check from the floor reads %d pages, want at most 50", got)
	}
	if got := o.pagesOfCheck(0); got < 200 {
		t.Errorf("a check from the bottom reads %d pages: the control is not caught", got)
	}
}

// pagesOfCheck counts the pages that a check from a seq reads.
func (o *owning) pagesOfCheck(from int64) int {
	o.t.Helper()
	var raw string
	row := o.session.Conn().QueryRow(o.t.Context(), `explain (analyze, buffers, format json) `+store.HasUnsentSQL, 0,
		from, nil, 0)
	if err := row.Scan(&raw); err != nil {
		o.t.Fatal(err)
	}
	var explained []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	if err := json.Unmarshal([]byte(raw), &explained); err != nil {
		o.t.Fatal(err)
	}
	return explained[0].Plan.Hit + explained[0].Plan.Read
}
