package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/paylatch/paylatch/internal/payment"
)

// Find returns the tenant's payment. Another tenant's is payment.ErrNotFound, as one that does not exist. Concurrent calls share a statement.
func (s *Store) Find(ctx context.Context, tenant payment.TenantRef, id payment.ID) (payment.Payment, error) {
	p, err := s.findOne(ctx, tenant, id)
	if err == nil && p.Tenant != tenant {
		return payment.Payment{}, payment.ErrNotFound
	}
	return p, err
}

// Look returns what Find returns, for a request that polls and calls Find before it responds.
func (s *Store) Look(ctx context.Context, tenant payment.TenantRef, id payment.ID) (payment.Payment, error) {
	return s.Find(ctx, tenant, id)
}

// FindDerived returns the payment whose id was derived for the tenant: another tenant's row there is an alarm, not a "not found".
func (s *Store) FindDerived(ctx context.Context, tenant payment.TenantRef, id payment.ID) (payment.Payment, error) {
	p, err := s.findOne(ctx, tenant, id)
	if err == nil && p.Tenant != tenant {
		return payment.Payment{}, foreignRow(id, tenant, p.Tenant)
	}
	return p, err
}

func (s *Store) findOne(ctx context.Context, tenant payment.TenantRef, id payment.ID) (payment.Payment, error) {
	p, err := s.finds.call(ctx, tenant.ID, id)
	switch {
	case err != nil:
		return payment.Payment{}, err
	case p == nil:
		return payment.Payment{}, payment.ErrNotFound
	}
	return *p, nil
}

// findBatch returns the payments of these ids, in their order; nil where there is none.
func (s *Store) findBatch(ctx context.Context, ids []payment.ID) ([]*payment.Payment, error) {
	pooled, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, translate(err)
	}
	defer pooled.Release()
	conn := pooled.Conn()
	topic, err := memoryOf(conn).topic.get(ctx, conn)
	if err != nil {
		return nil, err
	}
	found, err := findIn(ctx, conn, ids, topic.name)
	if err != nil {
		return nil, err
	}
	answers := make([]*payment.Payment, len(ids))
	for i, id := range ids {
		answers[i] = found[id]
	}
	return answers, nil
}

// paymentColumns are what scanPayments reads, in its order. Parties, accounts and tenants come from memory, which four joins for each row would cost several times the row.
const paymentColumns = ` id, tenant_id, amount, currency, originator_id, beneficiary_id, sender_id, receiver_id,
		coalesce(reference, ''), trace_context, partition, seq, status::text, created_at, sent_at, kafka_offset `

const findPayments = `select` + paymentColumns + `from payments where id = any($1::uuid[])`

// querier is a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// findIn reads payments over a connection, in the transaction that is open on it, if any.
func findIn(ctx context.Context, conn *pgx.Conn, ids []payment.ID, topic string) (map[payment.ID]*payment.Payment, error) {
	uuids := make([][16]byte, len(ids))
	for i, id := range ids {
		uuids[i] = id
	}
	rows, err := conn.Query(ctx, findPayments, uuids)
	if err != nil {
		return nil, translate(err)
	}
	payments, err := readPayments(ctx, conn, rows, topic, len(ids))
	if err != nil {
		return nil, err
	}
	found := make(map[payment.ID]*payment.Payment, len(payments))
	for i := range payments {
		found[payments[i].ID] = &payments[i]
	}
	return found, nil
}

// readPayments reads rows of paymentColumns, about so many, to their end, and then what they refer to.
func readPayments(ctx context.Context, conn *pgx.Conn, rows pgx.Rows, topic string, about int) ([]payment.Payment, error) {
	payments, parties, accounts, err := scanPayments(rows, topic, about)
	if err != nil {
		return nil, err
	}
	known := memoryOf(conn)
	named, err := known.parties.contents(ctx, conn, parties)
	if err != nil {
		return nil, err
	}
	numbered, err := known.accounts.contents(ctx, conn, accounts)
	if err != nil {
		return nil, err
	}
	names, err := known.tenantNames(ctx, conn, payments)
	if err != nil {
		return nil, err
	}
	for i := range payments {
		p := &payments[i]
		p.Tenant.Name = names[i]
		p.Originator, p.Beneficiary = named[2*i].party(), named[2*i+1].party()
		p.Sender, p.Receiver = numbered[2*i].account(), numbered[2*i+1].account()
	}
	return payments, nil
}

// scanPayments reads rows of paymentColumns, with the ids of two parties and two accounts for each. A status that the code does not know or a torn row is an error that names
// the payment.
func scanPayments(rows pgx.Rows, topic string, about int) (payments []payment.Payment, parties, accounts []int64, err error) {
	var (
		p                                         payment.Payment
		originator, beneficiary, sender, receiver int64
		status, trace                             pgtype.DriverBytes // Read before the next row comes.
		partition                                 int16
		sentAt                                    pgtype.Timestamptz
		offset                                    pgtype.Int8
	)
	payments, parties, accounts = make([]payment.Payment, 0, about), make([]int64, 0, 2*about), make([]int64, 0, 2*about)
	_, err = pgx.ForEachRow(rows, []any{
		(*[16]byte)(&p.ID), &p.Tenant.ID, &p.Money.Minor, &p.Money.Currency, &originator, &beneficiary, &sender, &receiver,
		&p.Reference, &trace, &partition, &p.Seq, &status, &p.CreatedAt, &sentAt, &offset,
	}, func() error {
		q := p
		q.Partition, q.TraceParent, q.CreatedAt = int32(partition), payment.TraceParentOf(trace), p.CreatedAt.UTC()
		var err error
		if q.Status, err = payment.ParseStatus(string(status)); err != nil {
			return fmt.Errorf("payment %s: %w: %w", q.ID, errImpossible, err)
		}
		if (q.Status == payment.Created) == sentAt.Valid || sentAt.Valid != offset.Valid {
			return fmt.Errorf("payment %s: %w: sent without an offset, or unsent with one", q.ID, errImpossible)
		}
		if sentAt.Valid {
			q.Sent = &payment.Emission{At: sentAt.Time.UTC(), Topic: topic, Offset: offset.Int64}
		}
		payments, parties, accounts = append(payments, q), append(parties, originator, beneficiary), append(accounts, sender, receiver)
		return nil
	})
	return payments, parties, accounts, translate(err)
}
