package store

import "context"

// Storage is the disk space of the payments, in bytes.
type Storage struct {
	Payments int64 `json:"payments"`
	// RowBytes is sum(pg_column_size(row) + 24), by which the row's budget of 200 bytes is
	// measured.
	RowBytes int64 `json:"row_bytes"`
	// Heap is the table's file, including dead rows and free space.
	Heap int64 `json:"heap"`
	// Dead is the part of Heap in rows that vacuum will free, by PostgreSQL's own count and the
	// mean row.
	Dead int64 `json:"dead"`
	// Indexes are those of the payments.
	Indexes int64 `json:"indexes"`
	// Parties is the table and its indexes.
	Parties int64 `json:"parties"`
	// Accounts is the table and its indexes.
	Accounts int64 `json:"accounts"`
	// TotalDisk is the sum of Heap, Indexes, Parties and Accounts.
	TotalDisk int64 `json:"total_disk"`
}

const selectStorage = `
	with rows as (select count(*) as n, coalesce(sum(pg_column_size(p) + 24), 0)::bigint as bytes from payments p),
	disk as (select pg_table_size('payments') as heap, pg_indexes_size('payments') as indexes,
	pg_total_relation_size('parties') as parties,
		pg_total_relation_size('accounts') as accounts),
	dead as (select coalesce(max(n_dead_tup), 0) as n from pg_stat_user_tables where relname = 'payments')
	select rows.n, rows.bytes, heap, (dead.n * rows.bytes / greatest(rows.n, 1))::bigint, indexes, parties, accounts,
		heap + indexes + parties + accounts from rows, disk, dead`

// Storage measures the disk space. It reads the whole table.
func (s *Store) Storage(ctx context.Context) (Storage, error) {
	var m Storage
	err := s.pool.QueryRow(ctx, selectStorage).Scan(&m.Payments, &m.RowBytes, &m.Heap, &m.Dead, &m.Indexes, &m.Parties,
		&m.Accounts, &m.TotalDisk)
	return m, translate(err)
}
