package store

import (
	"context"

	"github.com/jackc/pgx/v5"
)

const selectOwners = `select objid::integer, pid from pg_locks where locktype = 'advisory' and granted and objsubid = 2
	and classid::bigint = $1 and database = (select oid from pg_database where datname = current_database())`

// Owners returns the partitions that have an owner now, and the server process of the owner's
// session.
func (s *Store) Owners(ctx context.Context) (map[int32]int32, error) {
	rows, err := s.pool.Query(ctx, selectOwners, lockClassPartition)
	if err != nil {
		return nil, translate(err)
	}
	owners := map[int32]int32{}
	var partition, process int32
	_, err = pgx.ForEachRow(rows, []any{&partition, &process}, func() error {
		owners[partition] = process
		return nil
	})
	return owners, translate(err)
}
