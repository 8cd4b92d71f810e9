package store

import (
	"context"
	"fmt"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/payment"
)

// memory is what is remembered of rows that never change. It belongs to one incarnation of the
// database, and each connection knows the memory of its own: what comes over a connection is
// understood by what came from the same database, also while a restored or promoted one is only
// just being found out about.
type memory struct {
	incarnation string
	parties     *interner
	accounts    *interner
	// Names.
	tenants *lru.Cache[int32, string]
	topic   topicCache
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

// complete sets the parties, accounts and tenants of scanned payments: from memory mostly, and what
// is missing there by one exchange with the database.
func (m *memory) complete(ctx context.Context, conn *pgx.Conn, s scanned) ([]payment.Payment, error) {
	parties, accounts := m.parties.name(s.parties), m.accounts.name(s.accounts)
	unnamed := m.nameTenants(s.payments)
	batch := &pgx.Batch{}
	parties.queue(batch)
	accounts.queue(batch)
	if len(unnamed) > 0 {
		batch.Queue(selectTenantNames, unnamed)
	}
	if batch.Len() > 0 {
		if err := m.readMissing(conn.SendBatch(ctx, batch), parties, accounts, len(unnamed) > 0); err != nil {
			return nil, err
		}
		m.nameTenants(s.payments)
	}
	for i := range s.payments {
		p := &s.payments[i]
		if p.Tenant.Name == "" {
			return nil, fmt.Errorf("payment %s: %w: its tenant %d is missing", p.ID, errImpossible, p.Tenant.ID)
		}
		p.Originator, p.Beneficiary = parties.contents[2*i].party(), parties.contents[2*i+1].party()
		p.Sender, p.Receiver = accounts.contents[2*i].account(), accounts.contents[2*i+1].account()
	}
	return s.payments, nil
}

// nameTenants sets the tenants' names that are remembered, and returns the ids of the others.
func (m *memory) nameTenants(payments []payment.Payment) (unnamed []int32) {
	for i := range payments {
		t := &payments[i].Tenant
		var ok bool
		if t.Name, ok = m.tenants.Get(t.ID); !ok {
			unnamed = append(unnamed, t.ID)
		}
	}
	return unnamed
}

func (m *memory) readMissing(results pgx.BatchResults, parties, accounts *naming, tenants bool) error {
	err := parties.read(results)
	if err == nil {
		err = accounts.read(results)
	}
	if err == nil && tenants {
		err = m.readTenants(results)
	}
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	return translate(err)
}

func (m *memory) readTenants(results pgx.BatchResults) error {
	rows, err := results.Query()
	if err != nil {
		return err
	}
	var id int32
	var name string
	_, err = pgx.ForEachRow(rows, []any{&id, &name}, func() error {
		m.tenants.Add(id, name)
		return nil
	})
	return err
}
