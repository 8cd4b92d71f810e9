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

// knows reports whether the newest connection led to the incarnation, too.
func (s *Store) knows(incarnation string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.memory != nil && s.memory.incarnation == incarnation
}

// remember returns what is remembered of the incarnation. A new one has nothing in common with the
// one before: API keys are forgotten, too, and idle connections are closed.
func (s *Store) remember(incarnation string) (*memory, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.memory != nil && s.memory.incarnation == incarnation {
		return s.memory, nil
	}
	fresh, err := newMemory(incarnation)
	if err != nil {
		return nil, err
	}
	if s.memory != nil {
		s.keys.forget()
		s.pool.Reset()
	}
	s.memory = fresh
	return fresh, nil
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
