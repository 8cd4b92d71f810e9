package store

import (
	"context"
	"fmt"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/payment"
)

// memory is what is remembered of rows that never change. It belongs to one incarnation of the database, and each connection knows the memory of its own: what comes over a
// connection is understood by what came from the same database, also while a restored or promoted one is only just being found out about.
type memory struct {
	incarnation string
	parties     *interner
	accounts    *interner
	tenants     *lru.Cache[int32, string] // Names.
	topic       topicCache
}

func newMemory(incarnation string) (*memory, error) {
	parties, err := newInterner(selectParties, insertParties, selectPartiesByID)
	if err != nil {
		return nil, err
	}
	accounts, err := newInterner(selectAccounts, insertAccounts, selectAccountsByID)
	if err != nil {
		return nil, err
	}
	tenants, err := lru.New[int32, string](tenantsMax)
	if err != nil {
		return nil, fmt.Errorf("cache of tenants' names: %w", err)
	}
	return &memory{incarnation: incarnation, parties: parties, accounts: accounts, tenants: tenants}, nil
}

// A commit that is acknowledged before it is on disk would let a 202, or a mark, vanish in a crash, whatever server, role or database say; a stricter setting stays as it is.
// The server's start and the database's oid name the incarnation: a restart, a fail-over, a restore, and a database made anew all change it.
//
// A statement is planned once for a connection and not for each execution, which takes longer than to execute it. Such a plan must not have been made for the few rows that were there
// at first: every statement that is in a hurry has an index, and whatever reads a whole table does so all the same.
const greet = `select pg_postmaster_start_time()::text || ' ' || oid,
		case when current_setting('synchronous_commit') in ('off', 'local') then set_config('synchronous_commit', 'on', false) end,
		set_config('plan_cache_mode', 'force_generic_plan', false), set_config('enable_seqscan', 'off', false)
	from pg_database where datname = current_database()`

// memoryKey is where a connection keeps its memory.
const memoryKey = "paylatch memory"

// greet prepares a new connection: its commits are durable, and it knows the memory of the database that it leads to. When that is another incarnation than the one
// before, nothing is known of it: rows may be gone, and ids given anew.
func (s *Store) greet(ctx context.Context, conn *pgx.Conn) error {
	var incarnation string
	if err := conn.QueryRow(ctx, greet).Scan(&incarnation, nil, nil, nil); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.memory == nil || s.memory.incarnation != incarnation {
		fresh, err := newMemory(incarnation)
		if err != nil {
			return err
		}
		s.memory = fresh
		s.keys.forget()
	}
	conn.PgConn().CustomData()[memoryKey] = s.memory
	return nil
}

// memoryOf is what is remembered of the database behind a connection.
func memoryOf(conn *pgx.Conn) *memory {
	return conn.PgConn().CustomData()[memoryKey].(*memory) // greet, which every connection has gone through, put it there.
}

const selectTenantNames = `select id, name from tenants where id = any($1::integer[])`

// tenantNames returns the name of each payment's tenant.
func (m *memory) tenantNames(ctx context.Context, q querier, payments []payment.Payment) ([]string, error) {
	names := make([]string, len(payments))
	var missing []int32
	for i, p := range payments {
		var ok bool
		if names[i], ok = m.tenants.Get(p.Tenant.ID); !ok {
			missing = append(missing, p.Tenant.ID)
		}
	}
	if len(missing) == 0 {
		return names, nil
	}
	rows, err := q.Query(ctx, selectTenantNames, missing)
	if err != nil {
		return nil, translate(err)
	}
	found := map[int32]string{}
	var id int32
	var name string
	if _, err := pgx.ForEachRow(rows, []any{&id, &name}, func() error { found[id] = name; return nil }); err != nil {
		return nil, translate(err)
	}
	for id, name := range found {
		m.tenants.Add(id, name)
	}
	for i, p := range payments {
		if names[i] == "" {
			if names[i] = found[p.Tenant.ID]; names[i] == "" {
				return nil, fmt.Errorf("payment %s: %w: its tenant %d is missing", p.ID, errImpossible, p.Tenant.ID)
			}
		}
	}
	return names, nil
}
