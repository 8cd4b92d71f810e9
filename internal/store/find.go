package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/paylatch/paylatch/internal/payment"
)

// Find returns the tenant's payment, or payment.ErrNotFound, also for a payment of another tenant.
//
// The result, also ErrNotFound, is on the synchronous standby if there is one. While that is not
// confirmed, Find waits, and returns payment.ErrUnavailable when ctx ends. Concurrent calls share a
// statement.
func (s *Store) Find(ctx context.Context, tenant payment.TenantRef, id payment.ID) (payment.Payment, error) {
	p, err := s.findOne(ctx, tenant, id)
	if err == nil && p.Tenant != tenant {
		return payment.Payment{}, payment.ErrNotFound
	}
	return p, err
}

// FindDerived is like Find for an id that was derived for the tenant. A row of another tenant is an
// error, not payment.ErrNotFound: see foreignRow.
func (s *Store) FindDerived(ctx context.Context, tenant payment.TenantRef, id payment.ID) (payment.Payment, error) {
	p, err := s.findOne(ctx, tenant, id)
	if err == nil && p.Tenant != tenant {
		return payment.Payment{}, foreignRow(id, tenant, p.Tenant)
	}
	return p, err
}

// Look is like Find, but does not wait for the synchronous standby. A failover may undo what it
// returns. Confirm it by Find before it is reported to a client.
func (s *Store) Look(ctx context.Context, tenant payment.TenantRef, id payment.ID) (payment.Payment, error) {
	f, err := s.finds.Do(ctx, tenant.ID, id)
	if err != nil {
		return payment.Payment{}, err
	}
	if f.payment == nil || f.payment.Tenant != tenant {
		return payment.Payment{}, payment.ErrNotFound
	}
	return *f.payment, nil
}

// findOne reads a payment and confirms the result, also that there is none.
func (s *Store) findOne(ctx context.Context, tenant payment.TenantRef, id payment.ID) (payment.Payment, error) {
	f, err := s.finds.Do(ctx, tenant.ID, id)
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

// found is the result of one lookup.
type found struct {
	// payment is nil if there is none.
	payment *payment.Payment
	read    read
}

// findBatch returns the payments with these ids, in their order.
func (s *Store) findBatch(ctx context.Context, ids []payment.ID) ([]found, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	pooled, err := s.take(ctx)
	if err != nil {
		return nil, err
	}
	defer pooled.Release()
	conn := pooled.Conn()
	topic, err := cacheOf(conn).topic.get(ctx, conn)
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

// hasStandby reports whether commits wait for a synchronous standby, as the session sees it. A
// change of the setting reaches all sessions at once, between two of their statements.
const hasStandby = `select current_setting('synchronous_standby_names') <> ''`

// readIn is like findIn, outside a transaction. It also returns what must be confirmed before the
// result is reported. Both statements are one round trip.
func readIn(ctx context.Context, conn *pgx.Conn, ids []payment.ID, topic string) (map[payment.ID]*payment.Payment, read,
	error,
) {
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
	payments, err := cacheOf(conn).complete(ctx, conn, scanned)
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

// paymentColumns are the columns that scanPayments reads, in its order. Parties, accounts and
// tenants come from the cache: four joins would cost several times as much as the row.
const paymentColumns = ` id, tenant_id, amount, currency, originator_id, beneficiary_id, sender_id, receiver_id,
		coalesce(reference, ''), trace_context, partition, seq, status::text, created_at, sent_at, kafka_offset `

const findPayments = `select` + paymentColumns + `from payments where id = any($1::uuid[])`

// querier is a connection, a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// findIn reads payments over a connection, in its open transaction, if any.
func findIn(ctx context.Context, conn *pgx.Conn, ids []payment.ID, topic string) (map[payment.ID]*payment.Payment,
	error,
) {
	rows, err := conn.Query(ctx, findPayments, uuidsOf(ids))
	if err != nil {
		return nil, translate(err)
	}
	payments, err := readPayments(ctx, conn, rows, topic, len(ids))
	return byID(payments), err
}

// uuidsOf returns ids as pgx encodes them.
func uuidsOf(ids []payment.ID) [][16]byte {
	uuids := make([][16]byte, len(ids))
	for i, id := range ids {
		uuids[i] = id
	}
	return uuids
}

// byID returns payments by their id.
func byID(payments []payment.Payment) map[payment.ID]*payment.Payment {
	found := make(map[payment.ID]*payment.Payment, len(payments))
	for i := range payments {
		found[payments[i].ID] = &payments[i]
	}
	return found
}

// readPayments reads all rows, of paymentColumns, and what they refer to. about is how many there
// may be.
func readPayments(ctx context.Context, conn *pgx.Conn, rows pgx.Rows, topic string, about int) ([]payment.Payment,
	error,
) {
	s, err := scanPayments(rows, topic, about)
	if err != nil {
		return nil, err
	}
	return cacheOf(conn).complete(ctx, conn, s)
}

// scanned are payments without what their rows refer to. There are two ids of parties and two of
// accounts for each payment.
type scanned struct {
	payments          []payment.Payment
	parties, accounts []int64
}

// scanPayments reads all rows, of paymentColumns. A status that this program does not know, or an
// inconsistent row, is an error that names the payment.
func scanPayments(rows pgx.Rows, topic string, about int) (s scanned, err error) {
	var (
		p                                         payment.Payment
		originator, beneficiary, sender, receiver int64
		// Each is read before the next row is scanned.
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
		q.Status, err = payment.ParseStatus(string(status))
		if err != nil {
			return fmt.Errorf("payment %s: %w: %w", q.ID, errCorrupt, err)
		}
		if (q.Status == payment.StatusCreated) == sentAt.Valid || sentAt.Valid != offset.Valid {
			return fmt.Errorf("payment %s: %w: sent without an offset, or unsent with one", q.ID, errCorrupt)
		}
		if sentAt.Valid {
			q.Emission = &payment.Emission{At: sentAt.Time.UTC(), Topic: topic, Offset: offset.Int64}
		}
		s.payments = append(s.payments, q)
		s.parties, s.accounts = append(s.parties, originator, beneficiary), append(s.accounts, sender, receiver)
		return nil
	})
	return s, translate(err)
}
