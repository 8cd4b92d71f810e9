package auditor

import (
	"context"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// table is the table of payments.
type table interface {
	snapshot(ctx context.Context) (snapshot, error)
}

// snapshot is a consistent view of the table; see store.Snapshot.
type snapshot interface {
	Partitions(ctx context.Context) ([]store.Partition, error)
	Totals(ctx context.Context) ([]store.Totals, error)
	Places(ctx context.Context, ids []payment.ID) (map[payment.ID]store.Place, error)
	sent(ctx context.Context, topic string, partition int32) (sentRows, error)
	Close()
}

// sentRows are the payments of a partition that are marked sent, in order of offset.
type sentRows interface {
	Next(ctx context.Context) (row store.SentRow, ok bool, err error)
	Close()
}

// storeTable is the table in PostgreSQL.
type storeTable struct{ store *store.Store }

func (t storeTable) snapshot(ctx context.Context) (snapshot, error) {
	s, err := t.store.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return storeSnapshot{s}, nil
}

type storeSnapshot struct{ *store.Snapshot }

func (s storeSnapshot) sent(ctx context.Context, topic string, partition int32) (sentRows, error) {
	rows, err := s.Sent(ctx, topic, partition)
	if err != nil {
		return nil, err
	}
	return rows, nil
}
