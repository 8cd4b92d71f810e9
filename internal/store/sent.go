package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/payment"
)

// selectSent is served by no index. An auditor scans and sorts, on the server's disk if needed, so
// that the sender's updates need not maintain an index.
const selectSent = `select` + paymentColumns + `from payments where partition = $1 and status <> 'created'
	order by kafka_offset`

// sentChunk is how many rows of SentRows are in memory. Parties and accounts that are not cached
// are read once for each chunk.
const sentChunk = 500

// SentRow is a payment that is marked sent.
type SentRow struct {
	payment.Payment
	// Broken is why the row cannot be a payment: a party or an account is missing, say. It is nil
	// for a sound row. Parties and accounts of a broken row are empty.
	Broken error
}

// SentRows streams the sent payments of a partition in order of offset. Not safe for concurrent
// use.
type SentRows struct {
	snapshot *Snapshot
	rows     pgx.Rows
	topic    string
	chunk    []SentRow
}

// Sent starts a stream. Read it to its end or close it before the next one.
func (s *Snapshot) Sent(ctx context.Context, topic string, partition int32) (*SentRows, error) {
	rows, err := s.stream.Query(ctx, selectSent, partition)
	return &SentRows{snapshot: s, rows: rows, topic: topic}, translate(err)
}

// Next returns the next row. ok is false at the end.
func (r *SentRows) Next(ctx context.Context) (row SentRow, ok bool, err error) {
	if len(r.chunk) == 0 {
		r.chunk, err = r.read(ctx)
		if err != nil || len(r.chunk) == 0 {
			return SentRow{}, false, err
		}
	}
	row, r.chunk = r.chunk[0], r.chunk[1:]
	return row, true, nil
}

// Close ends the stream.
func (r *SentRows) Close() { r.rows.Close() }

// read reads the next chunk. It is empty at the end.
func (r *SentRows) read(ctx context.Context) ([]SentRow, error) {
	s, err := scanPayments(&firstRows{r.rows, sentChunk}, r.topic, sentChunk)
	if err != nil {
		return nil, err
	}
	chunk := make([]SentRow, len(s.payments))
	payments, err := r.complete(ctx, s)
	for i := range payments {
		chunk[i].Payment = payments[i]
	}
	if !IsCorrupt(err) {
		return chunk, err
	}
	for i := range chunk { // Find out which ones they are.
		one := scanned{s.payments[i : i+1], s.parties[2*i : 2*i+2], s.accounts[2*i : 2*i+2]}
		payments, err := r.complete(ctx, one)
		if err != nil && !IsCorrupt(err) {
			return nil, err
		}
		chunk[i].Broken = err
		if err == nil {
			chunk[i].Payment = payments[0]
		} else {
			chunk[i].Payment = s.payments[i]
		}
	}
	return chunk, nil
}

func (r *SentRows) complete(ctx context.Context, s scanned) ([]payment.Payment, error) {
	conn := r.snapshot.lookUp
	return cacheOf(conn).complete(ctx, conn, s)
}

// firstRows are the next rows of a stream, at most left. The stream goes on after them.
type firstRows struct {
	pgx.Rows
	left int
}

// Next implements pgx.Rows.
func (r *firstRows) Next() bool {
	if r.left == 0 {
		return false
	}
	r.left--
	return r.Rows.Next()
}

// Close implements pgx.Rows. It leaves the stream open.
func (r *firstRows) Close() {}
