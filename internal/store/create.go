package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/paylatch/paylatch/internal/payment"
)

// Create stores p, unless its id is there already: then the stored payment is the answer and
// replayed is true, or a *payment.KeyReused when its content is another one. When it returns
// without error the payment is committed and survives any crash. When it returns
// payment.ErrUnavailable, nothing was stored or the same call made again finds it. Any number of
// concurrent calls for one id store one row. Concurrent calls share a statement and a commit; each
// has its own outcome.
func (s *Store) Create(ctx context.Context, p payment.Payment) (stored payment.Payment, replayed bool, err error) {
	created, err := s.creates.call(ctx, p.Tenant.ID, p)
	if err == nil {
		err = s.confirm(ctx, created.read)
	}
	if err != nil {
		return payment.Payment{}, false, err
	}
	return created.stored, created.replayed, created.err
}

// creation is one payment's outcome within a batch.
type creation struct {
	stored   payment.Payment
	replayed bool
	err      error
	// Where the stored payment was found; zero for a new one, whose own commit has waited.
	read read
}

// createBatch stores the payments in one statement and so one commit. The error is of the whole
// batch; a payment's own is in its place.
func (s *Store) createBatch(ctx context.Context, batch []payment.Payment) ([]creation, error) {
	pooled, err := s.acquire(ctx) // One connection for all of it, and so one memory.
	if err != nil {
		return nil, err
	}
	defer pooled.Release()
	conn := pooled.Conn()
	known := &memoryOf(conn).topic
	topic, err := known.get(ctx, conn)
	if err != nil {
		return nil, err
	}
	for {
		outcomes, closed, err := s.tryBatch(ctx, conn, batch, topic)
		if err != nil || !closed {
			return outcomes, err
		}
		before := topic
		if topic, err = known.load(ctx, conn); err != nil || topic == before {
			return outcomes, err
		}
		// Partitions were added since we looked, which does not go on for ever.
	}
}

// acquire takes a connection from the pool within roundTimeout.
func (s *Store) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	conn, err := s.pool.Acquire(ctx)
	return conn, translate(err)
}

// tryBatch stores the payments if the intake is open for the topic as it was known; closed tells
// that some of them were not stored because it was not.
func (s *Store) tryBatch(ctx context.Context, conn *pgx.Conn, batch []payment.Payment,
	topic topicInfo) (outcomes []creation, closed bool, err error) {
	inserted, err := insert(conn, batch, topic)
	if err != nil {
		return nil, false, err
	}
	outcomes = make([]creation, len(batch))
	var there []payment.ID
	for i, p := range batch {
		if stored, ok := inserted[p.ID]; ok {
			// A second payment under the same key in this batch is a replay of the first.
			delete(inserted, p.ID)
			stored.complete(&p)
			s.waker.wake(p.Partition)
			outcomes[i].stored = p
		} else {
			there = append(there, p.ID)
		}
	}
	if len(there) == 0 {
		return outcomes, false, nil
	}
	// A statement of its own: the insert's snapshot cannot see a row whose transaction it has just
	// waited for.
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	stored, read, err := readIn(ctx, conn, there, topic.name)
	for i, p := range batch {
		switch {
		case outcomes[i].stored.Status != "":
			// Inserted: that is on record, whatever became of the others.
		case err != nil:
			outcomes[i].err = err
		default:
			outcomes[i] = replay(p, stored)
			outcomes[i].read = read
			closed = closed || errors.Is(outcomes[i].err, errIntakeClosed)
		}
	}
	return outcomes, closed, nil
}

// replay compares what is asked for with what is stored under its id.
func replay(p payment.Payment, stored map[payment.ID]*payment.Payment) creation {
	there, ok := stored[p.ID]
	switch {
	case !ok:
		return creation{err: errIntakeClosed}
	case there.Tenant != p.Tenant:
		return creation{err: foreignRow(p.ID, p.Tenant, there.Tenant)}
	}
	if differs := p.Differences(*there); len(differs) > 0 {
		return creation{err: &payment.KeyReused{ID: p.ID, Differs: differs}}
	}
	return creation{stored: *there, replayed: true}
}

// foreignRow is the alarm for an id that two tenants' keys lead to. By chance it does not happen
// (2^-74 for two keys of one millisecond); it means that a salt was changed or a table mixed up,
// and nothing may be answered from such a row.
func foreignRow(id payment.ID, asked, there payment.TenantRef) error {
	return fmt.Errorf("%w: ALARM: payment %s, derived for tenant %q, is a row of tenant %q", payment.ErrUnavailable, id,
		asked.Name, there.Name)
}

// Rows of one statement go in order of id, so that two batches that meet wait for each other in one
// order and never deadlock.
const insertPayments = `insert into payments (id, tenant_id, amount, currency, originator_id, beneficiary_id, sender_id,
	receiver_id,
		reference, trace_context, partition)
	select * from unnest($1::uuid[], $2::integer[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
	$8::bigint[],
		$9::text[], $10::bytea[], $11::smallint[])
	where (select create_gate_is_open($12))
	on conflict on constraint payments_id_is_unique do nothing
	returning id, partition, seq, created_at`

// given is what the database gives a new payment.
type given struct {
	partition int16
	seq       int64
	createdAt time.Time
}

func (g given) complete(p *payment.Payment) {
	p.Partition, p.Seq, p.CreatedAt = int32(g.partition), g.seq, g.createdAt
}

// insert stores what is not there yet and returns it by id.
func insert(conn *pgx.Conn, batch []payment.Payment, topic topicInfo) (map[payment.ID]given, error) {
	columns, err := columns(conn, batch, topic.partitions)
	if err != nil {
		return nil, err
	}
	var inserted map[payment.ID]given
	err = commitOn(conn, func(ctx context.Context) error {
		rows, err := conn.Query(ctx, insertPayments,
			append(columns, int16(topic.partitions))...) //nolint:gosec // G115: numbered by a smallint.
		if err != nil {
			return err
		}
		inserted, err = scanGiven(rows, len(batch))
		return err
	})
	return inserted, err
}

// scanGiven reads what insertPayments returns, by id.
func scanGiven(rows pgx.Rows, about int) (map[payment.ID]given, error) {
	inserted := make(map[payment.ID]given, about)
	var id [16]byte
	var g given
	_, err := pgx.ForEachRow(rows, []any{&id, &g.partition, &g.seq, &g.createdAt}, func() error {
		inserted[payment.ID(id)] = given{g.partition, g.seq, g.createdAt.UTC()}
		return nil
	})
	return inserted, err
}

// columns interns the batch's parties and accounts and lays it out as insertPayments wants it.
func columns(conn *pgx.Conn, batch []payment.Payment, partitions int32) ([]any, error) {
	n := len(batch)
	sorted := make([]*payment.Payment, n)
	for i := range batch {
		sorted[i] = &batch[i]
	}
	slices.SortStableFunc(sorted, func(p, q *payment.Payment) int { return bytes.Compare(p.ID[:], q.ID[:]) })
	parties, accounts := make([]content, 0, 2*n), make([]content, 0, 2*n)
	for _, p := range sorted {
		parties = append(parties, partyContent(p.Tenant, p.Originator), partyContent(p.Tenant, p.Beneficiary))
		accounts = append(accounts, accountContent(p.Tenant, p.Sender), accountContent(p.Tenant, p.Receiver))
	}
	partyIDs, accountIDs, err := memoryOf(conn).intern(conn, parties, accounts)
	if err != nil {
		return nil, err
	}
	ids, tenants, amounts, currencies := make([][16]byte, n), make([]int32, n), make([]int64, n), make([]string, n)
	originators, beneficiaries, senders, receivers := make([]int64, n), make([]int64, n), make([]int64, n),
		make([]int64, n)
	references, traces, where := make([]*string, n), make([][]byte, n), make([]int16, n)
	for i, p := range sorted {
		ids[i], tenants[i], amounts[i], currencies[i] = p.ID, p.Tenant.ID, p.Money.Minor, p.Money.Currency
		originators[i], beneficiaries[i] = partyIDs[2*i], partyIDs[2*i+1]
		senders[i], receivers[i] = accountIDs[2*i], accountIDs[2*i+1]
		if p.Reference != "" {
			references[i] = &p.Reference
		}
		traces[i] = p.TraceParent.Bytes()
		where[i] = int16(payment.PartitionOf(p.PartitionHash,
			partitions)) //nolint:gosec // G115: Kafka partitions are smallint in the schema.
	}
	return []any{ids, tenants, amounts, currencies, originators, beneficiaries, senders, receivers, references, traces,
		where}, nil
}
