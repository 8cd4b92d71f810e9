package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/paylatch/paylatch/internal/payment"
)

// Find returns the tenant's payment. Another tenant's is payment.ErrNotFound, as one that does not
// exist. What it returns, also that there is none, is on the synchronous standby if there is one;
// payment.ErrUnavailable as long as that is not known. Concurrent calls share a statement.
func (s *Store) Find(ctx context.Context, tenant payment.TenantRef, id payment.ID) (payment.Payment, error) {
	p, err := s.findOne(ctx, tenant, id)
	if err == nil && p.Tenant != tenant {
		return payment.Payment{}, payment.ErrNotFound
	}
	return p, err
}

// FindDerived returns the payment whose id was derived for the tenant: another tenant's row there
// is an alarm, not a "not found".
func (s *Store) FindDerived(ctx context.Context, tenant payment.TenantRef, id payment.ID) (payment.Payment, error) {
	p, err := s.findOne(ctx, tenant, id)
	if err == nil && p.Tenant != tenant {
		return payment.Payment{}, foreignRow(id, tenant, p.Tenant)
	}
	return p, err
}

// Look is Find without the wait for the synchronous standby: what it returns may be undone by a
// failover, and must be confirmed by Find before a client is told.
func (s *Store) Look(ctx context.Context, tenant payment.TenantRef, id payment.ID) (payment.Payment, error) {
	f, err := s.finds.call(ctx, tenant.ID, id)
	if err != nil {
		return payment.Payment{}, err
	}
	if f.payment == nil || f.payment.Tenant != tenant {
		return payment.Payment{}, payment.ErrNotFound
	}
	return *f.payment, nil
}

// findOne reads a payment and has it confirmed; that there is none is confirmed, too.
func (s *Store) findOne(ctx context.Context, tenant payment.TenantRef, id payment.ID) (payment.Payment, error) {
	f, err := s.finds.call(ctx, tenant.ID, id)
	if err == nil {
		err = s.confirm(ctx, f.read)
	}
	switch {
	case err != nil:
		return payment.Payment{}, err
	case f.payment == nil:
		return payment.Payment{}, payment.ErrNotFound
	}
	return *f.payment, nil
}

// found is the result of one request for a payment.
type found struct {
	// Nil when there is none.
	payment *payment.Payment
	read    read
}

// findBatch returns the payments of these ids, in their order.
func (s *Store) findBatch(ctx context.Context, ids []payment.ID) ([]found, error) {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
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
	there, read, err := readIn(ctx, conn, ids, topic.name)
	if err != nil {
		return nil, err
	}
	results := make([]found, len(ids))
	for i, id := range ids {
		results[i] = found{there[id], read}
	}
	return results, nil
}

// hasStandby reports whether commits wait for a synchronous standby, in the view of the session: a
// change of the setting reaches all sessions at once, between two of their statements.
const hasStandby = `select current_setting('synchronous_standby_names') <> ''`

// readIn is findIn, outside of a transaction, with what must be known to report it. Both statements
// are one exchange with the database.
func readIn(ctx context.Context, conn *pgx.Conn, ids []payment.ID, topic string) (map[payment.ID]*payment.Payment, read,
	error) {
	r := read{incarnation: stateOf(conn).incarnation}
	batch := &pgx.Batch{}
	batch.Queue(hasStandby)
	batch.Queue(findPayments, uuidsOf(ids))
	results := conn.SendBatch(ctx, batch)
	scanned, err := scanBatch(results, &r, topic, len(ids))
	if closeErr := results.Close(); err == nil {
		err = translate(closeErr)
	}
	if err != nil {
		return nil, read{}, err
	}
	payments, err := memoryOf(conn).complete(ctx, conn, scanned)
	return byID(payments), r, err
}

func scanBatch(results pgx.BatchResults, r *read, topic string, about int) (scanned, error) {
	if err := results.QueryRow().Scan(&r.unconfirmed); err != nil {
		return scanned{}, translate(err)
	}
	rows, err := results.Query()
	if err != nil {
		return scanned{}, translate(err)
	}
	return scanPayments(rows, topic, about)
}

// paymentColumns are what scanPayments reads, in its order. Parties, accounts and tenants come from
// memory, which four joins for each row would cost several times the row.
const paymentColumns = ` id, tenant_id, amount, currency, originator_id, beneficiary_id, sender_id, receiver_id,
		coalesce(reference, ''), trace_context, partition, seq, status::text, created_at, sent_at, kafka_offset `

const findPayments = `select` + paymentColumns + `from payments where id = any($1::uuid[])`

// querier is a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// findIn reads payments over a connection, in the transaction that is open on it, if any.
func findIn(ctx context.Context, conn *pgx.Conn, ids []payment.ID, topic string) (map[payment.ID]*payment.Payment,
	error) {
	rows, err := conn.Query(ctx, findPayments, uuidsOf(ids))
	if err != nil {
		return nil, translate(err)
	}
	payments, err := readPayments(ctx, conn, rows, topic, len(ids))
	return byID(payments), err
}

func uuidsOf(ids []payment.ID) [][16]byte {
	uuids := make([][16]byte, len(ids))
	for i, id := range ids {
		uuids[i] = id
	}
	return uuids
}

func byID(payments []payment.Payment) map[payment.ID]*payment.Payment {
	found := make(map[payment.ID]*payment.Payment, len(payments))
	for i := range payments {
		found[payments[i].ID] = &payments[i]
	}
	return found
}

// readPayments reads rows of paymentColumns, about so many, to their end, and then what they refer
// to.
func readPayments(ctx context.Context, conn *pgx.Conn, rows pgx.Rows, topic string, about int) ([]payment.Payment,
	error) {
	s, err := scanPayments(rows, topic, about)
	if err != nil {
		return nil, err
	}
	return memoryOf(conn).complete(ctx, conn, s)
}

// scanned are payments without what their rows refer to: two ids of parties, and two of accounts,
// for each payment.
type scanned struct {
	payments          []payment.Payment
	parties, accounts []int64
}

// scanPayments reads rows of paymentColumns to their end. A status that the code does not know, or
// a torn row, is an error that names the payment.
func scanPayments(rows pgx.Rows, topic string, about int) (s scanned, err error) {
	var (
		p                                         payment.Payment
		originator, beneficiary, sender, receiver int64
		// Read before the next row comes.
		status, trace pgtype.DriverBytes
		partition     int16
		sentAt        pgtype.Timestamptz
		offset        pgtype.Int8
	)
	s = scanned{make([]payment.Payment, 0, about), make([]int64, 0, 2*about), make([]int64, 0, 2*about)}
	_, err = pgx.ForEachRow(rows, []any{
		(*[16]byte)(&p.ID), &p.Tenant.ID, &p.Money.Minor, &p.Money.Currency, &originator, &beneficiary, &sender,
		&receiver,
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
		s.payments = append(s.payments, q)
		s.parties, s.accounts = append(s.parties, originator, beneficiary), append(s.accounts, sender, receiver)
		return nil
	})
	return s, translate(err)
}
