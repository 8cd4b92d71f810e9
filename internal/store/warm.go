package store

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// copyNewest inserts a payment like the newest by id, if there is one. PostgreSQL prepares the
// checks of foreign keys in each session when the first row is inserted.
const copyNewest = `insert into payments (id, tenant_id, amount, currency, originator_id, beneficiary_id,
		sender_id, receiver_id, partition)
	select gen_random_uuid(), tenant_id, amount, currency, originator_id, beneficiary_id, sender_id,
		receiver_id, partition
	from (select * from payments order by id desc limit 1) newest`

// warm prepares a new connection for the first request. It executes the statements on the path of a
// payment once, so that they are parsed and planned, and reads the topic. It rolls back, since a
// commit might wait for a standby.
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
	batch.Queue(selectLiveKeys, [][]byte{})
	batch.Queue(copyNewest)
	// An error is dropped: a connection that is not warm is slower once.
	_ = conn.SendBatch(ctx, batch).Close()
	if _, err := conn.Exec(ctx, `rollback`); err != nil {
		return translate(err)
	}
	_, err = known.topic.get(ctx, conn)
	if errors.Is(err, errNoTopic) { // It will be read again.
		err = nil
	}
	return err
}
