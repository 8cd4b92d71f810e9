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

// Create stores p, unless its id exists.
//
// If the id exists with the same content, Create returns the stored payment and replayed is true.
// If the content differs, it returns a *payment.KeyReusedError.
//
// Without an error the payment is committed and survives any crash. With payment.ErrUnavailable the
// outcome is unknown: either nothing was stored, or the same call made again finds it.
//
// Any number of concurrent calls for one id store one row. Concurrent calls share a statement and a
// commit, and each has its own outcome.
func (s *Store) Create(ctx context.Context, p payment.Payment) (stored payment.Payment, replayed bool, err error) {
	created, err := s.creates.Do(ctx, p.Tenant.ID, p)
	if err == nil {
		err = s.confirm(ctx, created.read)
	}
	if err != nil {
		return payment.Payment{}, false, err
	}
	return created.stored, created.replayed, created.err
}

// creation is the outcome of one payment within a batch.
type creation struct {
	stored   payment.Payment
	replayed bool
	err      error
	// read is where the stored payment was found. It is zero for a new one, whose commit has waited
	// for the standby.
	read read
}

// createBatch stores the payments in one statement, and so in one commit. An error is that of the
// whole batch. The error of a single payment is in its creation.
func (s *Store) createBatch(ctx context.Context, batch []payment.Payment) ([]creation, error) {
	pooled, err := s.acquire(ctx) // One connection for all steps, and so one cache.
	if err != nil {
		return nil, err
	}
	defer pooled.Release()
	conn := pooled.Conn()
	known := &cacheOf(conn).topic
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
		topic, err = known.load(ctx, conn)
		if err != nil || topic == before {
			return outcomes, err
		}
		// Partitions were added after the topic was read. That happens a bounded number of times.
	}
}

// acquire takes a connection from the pool within stepTimeout.
func (s *Store) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	return s.take(ctx)
}

// tryBatch stores the payments if the create gate is open for the given number of partitions.
// closed reports that some of them were not stored because it was not.
func (s *Store) tryBatch(ctx context.Context, conn *pgx.Conn, batch []payment.Payment,
	topic topicInfo,
) (outcomes []creation, closed bool, err error) {
	inserted, err := insert(conn, batch, topic)
	if err != nil {
		return nil, false, err
	}
	outcomes = make([]creation, len(batch))
	var there []payment.ID
	for i, p := range batch {
		if stored, ok := inserted[p.ID]; ok {
			// A second payment with this key in the batch is a replay of the first.
			delete(inserted, p.ID)
			stored.complete(&p)
			s.notifier.Created(p.Partition)
			outcomes[i].stored = p
		} else {
			there = append(there, p.ID)
		}
	}
	if len(there) == 0 {
		return outcomes, false, nil
	}
	// This is a second statement, since the snapshot of the insert cannot see a row whose
	// transaction it has just waited for.
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	stored, read, err := readIn(ctx, conn, there, topic.name)
	for i, p := range batch {
		switch {
		case outcomes[i].stored.Status != "":
			// It was inserted, and is on record, whatever the outcome of the others.
		case err != nil:
			outcomes[i].err = err
		default:
			outcomes[i] = replay(p, stored)
			outcomes[i].read = read
			closed = closed || errors.Is(outcomes[i].err, errGateClosed)
		}
	}
	return outcomes, closed, nil
}

// replay compares the payment with the one that is stored under its id.
func replay(p payment.Payment, stored map[payment.ID]*payment.Payment) creation {
	there, ok := stored[p.ID]
	switch {
	case !ok:
		return creation{err: errGateClosed}
	case there.Tenant != p.Tenant:
		return creation{err: foreignRow(p.ID, p.Tenant, there.Tenant)}
	}
	if differs := p.Differences(*there); len(differs) > 0 {
		return creation{err: &payment.KeyReusedError{ID: p.ID, Differs: differs}}
	}
	return creation{stored: *there, replayed: true}
}

// foreignRow is the error for an id that is derived from the keys of two tenants. That does not
// happen by chance: the probability is 2^-74 for two keys of one millisecond. A salt was changed,
// or a table was mixed up, so nothing of the row may be reported.
func foreignRow(id payment.ID, asked, there payment.TenantRef) error {
	return fmt.Errorf("%w: ALARM: payment %s, derived for tenant %q, is a row of tenant %q", payment.ErrUnavailable, id,
		asked.Name, there.Name)
}

// insertPayments inserts in order of id. Two batches with the same rows then wait for each other in
// one order, and cannot deadlock.
const insertPayments = `insert into payments (id, tenant_id, amount, currency,
		originator_id, beneficiary_id, sender_id, receiver_id, reference, trace_context, partition)
	select * from unnest($1::uuid[], $2::integer[], $3::bigint[], $4::text[],
		$5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::text[], $10::bytea[], $11::smallint[])
	where (select create_gate_is_open($12))
	on conflict on constraint payments_id_is_unique do nothing
	returning id, partition, seq, created_at`

// given is what the database adds to a new payment.
type given struct {
	partition int16
	seq       int64
	createdAt time.Time
}

// complete sets what the database has added.
func (g given) complete(p *payment.Payment) {
	p.Partition, p.Seq, p.CreatedAt = int32(g.partition), g.seq, g.createdAt
}

// insert stores the payments that do not exist yet, and returns them by id. On record once it
// returns nil.
func insert(conn *pgx.Conn, batch []payment.Payment, topic topicInfo) (map[payment.ID]given, error) {
	columns, err := columns(conn, batch, topic.partitions)
	if err != nil {
		return nil, err
	}
	var inserted map[payment.ID]given
	err = commitOn(conn, func(ctx context.Context) error {
		rows, err := conn.Query(ctx, insertPayments,
			append(columns, int16(topic.partitions))...)
		if err != nil {
			return err
		}
		inserted, err = scanGiven(rows, len(batch))
		return err
	})
	return inserted, err
}

// scanGiven reads the rows that insertPayments returns, by id. about is how many there may be.
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

// columns interns the parties and accounts of the batch, and returns the parameters of
// insertPayments, in order of id.
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
	partyIDs, accountIDs, err := cacheOf(conn).intern(conn, parties, accounts)
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
		partition := payment.PartitionOf(p.PartitionHash, partitions)
		where[i] = int16(partition)
	}
	return []any{
		ids, tenants, amounts, currencies, originators, beneficiaries, senders, receivers, references, traces,
		where,
	}, nil
}
