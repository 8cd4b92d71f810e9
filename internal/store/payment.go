package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/payment"
)

// Create stores p, unless its id is there already: then the stored payment is the answer and replayed is true, or a *payment.KeyReused when
// its content is another one. When it returns without error the payment is committed and survives any crash. When it returns
// payment.ErrUnavailable, nothing was stored or the same call made again finds it. Any number of concurrent calls for one id store one row.
func (s *Store) Create(ctx context.Context, p payment.Payment) (stored payment.Payment, replayed bool, err error) {
	// The seam for committing concurrent creates together: all below takes a batch.
	created, err := s.createBatch(ctx, []payment.Payment{p})
	if err != nil {
		return payment.Payment{}, false, err
	}
	return created[0].stored, created[0].replayed, created[0].err
}

// creation is one payment's outcome within a batch.
type creation struct {
	stored   payment.Payment
	replayed bool
	err      error
}

// createBatch stores the payments in one statement and so one commit. The error is of the whole batch; a payment's own is in its place.
func (s *Store) createBatch(ctx context.Context, batch []payment.Payment) ([]creation, error) {
	// One connection for all of it: what is remembered of the database is forgotten when a new connection finds another incarnation of it, so what
	// is remembered now is true for as long as this connection lives.
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, translate(err)
	}
	defer conn.Release()
	topic, err := s.topic.get(ctx, conn)
	if err != nil {
		return nil, err
	}
	for {
		outcomes, closed, err := s.tryBatch(ctx, conn, batch, topic)
		if err != nil || !closed {
			return outcomes, err
		}
		before := topic
		if topic, err = s.topic.load(ctx, conn); err != nil || topic == before {
			return outcomes, err
		}
		// Partitions were added since we looked, which does not go on for ever.
	}
}

// tryBatch stores the payments if the intake is open for the topic as it was known; closed tells that some of them were not stored because it was not.
func (s *Store) tryBatch(ctx context.Context, conn querier, batch []payment.Payment, topic topicInfo) (outcomes []creation, closed bool, err error) {
	inserted, err := s.insert(ctx, conn, batch, topic)
	if err != nil {
		return nil, false, err
	}
	outcomes = make([]creation, len(batch))
	var there []payment.ID
	for i, p := range batch {
		if stored, ok := inserted[p.ID]; ok {
			delete(inserted, p.ID) // A second payment under the same key in this batch is a replay of the first.
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
	// A statement of its own: the insert's snapshot cannot see a row whose transaction it has just waited for.
	stored, err := s.find(ctx, conn, there, topic.name)
	if err != nil {
		return nil, false, err
	}
	for i, p := range batch {
		if outcomes[i].stored.Status == "" {
			outcomes[i] = replay(p, stored)
			closed = closed || errors.Is(outcomes[i].err, errIntakeClosed)
		}
	}
	return outcomes, closed, nil
}

// replay compares what is asked for with what is stored under its id.
func replay(p payment.Payment, stored map[payment.ID]payment.Payment) creation {
	there, ok := stored[p.ID]
	switch {
	case !ok:
		return creation{err: errIntakeClosed}
	case there.Tenant != p.Tenant:
		return creation{err: foreignRow(p.ID, p.Tenant, there.Tenant)}
	}
	if differs := p.Differences(there); len(differs) > 0 {
		return creation{err: &payment.KeyReused{ID: p.ID, Differs: differs}}
	}
	return creation{stored: there, replayed: true}
}

// foreignRow is the alarm for an id that two tenants' keys lead to. By chance it does not happen (2^-74 for two keys of one
// millisecond); it means that a salt was changed or a table mixed up, and nothing may be answered from such a row.
func foreignRow(id payment.ID, asked, there payment.TenantRef) error {
	return fmt.Errorf("%w: ALARM: payment %s, derived for tenant %q, is a row of tenant %q", payment.ErrUnavailable, id, asked.Name, there.Name)
}

// Rows of one statement go in order of id, so that two batches that meet wait for each other in one order and never deadlock.
const insertPayments = `insert into payments (id, tenant_id, amount, currency, originator_id, beneficiary_id, sender_id, receiver_id,
		reference, trace_context, partition)
	select * from unnest($1::uuid[], $2::integer[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
		$9::text[], $10::bytea[], $11::smallint[])
	where (select intake_is_open($12))
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
func (s *Store) insert(ctx context.Context, q querier, batch []payment.Payment, topic topicInfo) (map[payment.ID]given, error) {
	columns, err := s.columns(ctx, q, batch, topic.partitions)
	if err != nil {
		return nil, err
	}
	rows, err := q.Query(ctx, insertPayments, append(columns, int16(topic.partitions))...) //nolint:gosec // G115: numbered by a smallint.
	if err != nil {
		return nil, translate(err)
	}
	inserted := make(map[payment.ID]given, len(batch))
	var id uuid.UUID
	var g given
	_, err = pgx.ForEachRow(rows, []any{&id, &g.partition, &g.seq, &g.createdAt}, func() error {
		inserted[payment.ID(id)] = given{g.partition, g.seq, g.createdAt.UTC()}
		return nil
	})
	return inserted, translate(err)
}

// columns interns the batch's parties and accounts and lays it out as insertPayments wants it.
func (s *Store) columns(ctx context.Context, q querier, batch []payment.Payment, partitions int32) ([]any, error) {
	batch = slices.Clone(batch)
	slices.SortStableFunc(batch, func(p, q payment.Payment) int { return slices.Compare(p.ID[:], q.ID[:]) })
	var parties, accounts []content
	for _, p := range batch {
		parties = append(parties, partyContent(p.Tenant, p.Originator), partyContent(p.Tenant, p.Beneficiary))
		accounts = append(accounts, accountContent(p.Tenant, p.Sender), accountContent(p.Tenant, p.Receiver))
	}
	partyIDs, err := s.parties.ids(ctx, q, parties)
	if err != nil {
		return nil, err
	}
	accountIDs, err := s.accounts.ids(ctx, q, accounts)
	if err != nil {
		return nil, err
	}
	n := len(batch)
	ids, tenants, amounts, currencies := make([]uuid.UUID, n), make([]int32, n), make([]int64, n), make([]string, n)
	originators, beneficiaries, senders, receivers := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	references, traces, where := make([]*string, n), make([][]byte, n), make([]int16, n)
	for i, p := range batch {
		ids[i], tenants[i], amounts[i], currencies[i] = uuid.UUID(p.ID), p.Tenant.ID, p.Money.Minor, p.Money.Currency
		originators[i], beneficiaries[i] = partyIDs[parties[2*i]], partyIDs[parties[2*i+1]]
		senders[i], receivers[i] = accountIDs[accounts[2*i]], accountIDs[accounts[2*i+1]]
		if p.Reference != "" {
			references[i] = &batch[i].Reference
		}
		traces[i] = p.TraceParent.Bytes()
		where[i] = int16(payment.PartitionOf(p.PartitionHash, partitions)) //nolint:gosec // G115: Kafka partitions are smallint in the schema.
	}
	return []any{ids, tenants, amounts, currencies, originators, beneficiaries, senders, receivers, references, traces, where}, nil
}

// Find returns the tenant's payment. Another tenant's is payment.ErrNotFound, as one that does not exist.
func (s *Store) Find(ctx context.Context, tenant payment.TenantRef, id payment.ID) (payment.Payment, error) {
	p, err := s.findOne(ctx, id)
	if err == nil && p.Tenant != tenant {
		return payment.Payment{}, payment.ErrNotFound
	}
	return p, err
}

// FindDerived returns the payment whose id was derived for the tenant: another tenant's row there is an alarm, not a "not found".
func (s *Store) FindDerived(ctx context.Context, tenant payment.TenantRef, id payment.ID) (payment.Payment, error) {
	p, err := s.findOne(ctx, id)
	if err == nil && p.Tenant != tenant {
		return payment.Payment{}, foreignRow(id, tenant, p.Tenant)
	}
	return p, err
}

func (s *Store) findOne(ctx context.Context, id payment.ID) (payment.Payment, error) {
	topic, err := s.topic.get(ctx, s.pool)
	if err != nil {
		return payment.Payment{}, err
	}
	found, err := s.find(ctx, s.pool, []payment.ID{id}, topic.name)
	if err != nil {
		return payment.Payment{}, err
	}
	p, ok := found[id]
	if !ok {
		return payment.Payment{}, payment.ErrNotFound
	}
	return p, nil
}

// paymentColumns and paymentJoins read a payment whole, in the order scanPayments wants, from a table or CTE called p.
const (
	paymentColumns = ` p.id, p.tenant_id, t.name, p.amount, p.currency, o.party_id, o.name, b.party_id, b.name, s.type, s.number, r.type, r.number,
		coalesce(p.reference, ''), p.trace_context, p.partition, p.seq, p.status::text, p.created_at, p.sent_at, p.kafka_offset `
	paymentJoins = ` join tenants t on t.id = p.tenant_id
		join parties o on o.id = p.originator_id join parties b on b.id = p.beneficiary_id
		join accounts s on s.id = p.sender_id join accounts r on r.id = p.receiver_id `
)

const findPayments = `select` + paymentColumns + `from payments p` + paymentJoins + `where p.id = any($1::uuid[])`

// querier is a pool, a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func (s *Store) find(ctx context.Context, q querier, ids []payment.ID, topic string) (map[payment.ID]payment.Payment, error) {
	uuids := make([]uuid.UUID, len(ids))
	for i, id := range ids {
		uuids[i] = uuid.UUID(id)
	}
	rows, err := q.Query(ctx, findPayments, uuids)
	if err != nil {
		return nil, translate(err)
	}
	found := make(map[payment.ID]payment.Payment, len(ids))
	err = scanPayments(rows, topic, func(p payment.Payment) { found[p.ID] = p })
	return found, err
}

// scanPayments reads rows of paymentColumns. A status that the code does not know or a torn row is an error that names the payment.
func scanPayments(rows pgx.Rows, topic string, each func(payment.Payment)) error {
	var (
		id                                                uuid.UUID
		p                                                 payment.Payment
		originator, beneficiary, sender, receiver, status string
		trace                                             []byte
		partition                                         int16
		sentAt                                            *time.Time
		offset                                            *int64
	)
	_, err := pgx.ForEachRow(rows, []any{
		&id, &p.Tenant.ID, &p.Tenant.Name, &p.Money.Minor, &p.Money.Currency, &p.Originator.ID, &originator,
		&p.Beneficiary.ID, &beneficiary, &p.Sender.Type, &sender, &p.Receiver.Type, &receiver, &p.Reference, &trace, &partition, &p.Seq, &status,
		&p.CreatedAt, &sentAt, &offset,
	}, func() error {
		var err error
		q := p
		q.ID, q.Partition, q.TraceParent = payment.ID(id), int32(partition), payment.TraceParentOf(trace)
		q.Originator.Name, q.Beneficiary.Name = payment.Private(originator), payment.Private(beneficiary)
		q.Sender.Number, q.Receiver.Number = payment.Private(sender), payment.Private(receiver)
		q.CreatedAt = p.CreatedAt.UTC()
		if q.Status, err = payment.ParseStatus(status); err != nil {
			return fmt.Errorf("payment %s: %w: %w", q.ID, errImpossible, err)
		}
		if (q.Status == payment.Created) != (sentAt == nil) || (sentAt == nil) != (offset == nil) {
			return fmt.Errorf("payment %s: %w: sent without an offset, or unsent with one", q.ID, errImpossible)
		}
		if sentAt != nil {
			q.Sent = &payment.Emission{At: sentAt.UTC(), Topic: topic, Offset: *offset}
		}
		each(q)
		return nil
	})
	return translate(err)
}
