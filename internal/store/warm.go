package store

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// warm prepares a new connection for the first request: it executes the statements on the path of a
// payment once, without a row, so that they are parsed and planned. It rolls back, since a commit
// might wait for a standby.
func warm(ctx context.Context, conn *pgx.Conn) error {
	const noPartitions = 0
	nothing, err := columns(conn, nil, noPartitions)
	if err != nil {
		return err
	}
	known := cacheOf(conn)
	batch := &pgx.Batch{}
	batch.Queue(`begin`)
	for _, table := range []*interner{known.parties, known.accounts} {
		batch.Queue(table.insertSQL, columnsOf(nil)...)
		batch.Queue(table.selectSQL, columnsOf(nil)...)
		batch.Queue(table.selectByIDSQL, []int64{})
	}
	batch.Queue(selectTenantNames, []int32{})
	batch.Queue(insertPayments, append(nothing, int16(noPartitions))...)
	batch.Queue(hasStandby)
	batch.Queue(findPayments, [][16]byte{})
	// A connection that is not warm is slower once, and no worse.
	_ = conn.SendBatch(ctx, batch).Close()
	_, err = conn.Exec(ctx, `rollback`)
	return translate(err)
}
