package store

import (
	"context"
	"fmt"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/payment"
)

// cache holds rows that never change. It belongs to one incarnation of the database. Each
// connection has the cache of its own incarnation. So ids that come over a connection are resolved
// with rows of the same database, also in the moments after a restore or a failover.
type cache struct {
	incarnation string
	parties     *interner
	accounts    *interner
	// tenants has the names by id.
	tenants *lru.Cache[int32, string]
	topic   topicCache
}

func newCache(incarnation string) (*cache, error) {
	parties := newInterner(selectParties, insertParties, selectPartiesByID)
	accounts := newInterner(selectAccounts, insertAccounts, selectAccountsByID)
	tenants, err := lru.New[int32, string](tenantsMax)
	if err != nil {
		return nil, fmt.Errorf("cache of tenants' names: %w", err)
	}
	return &cache{incarnation: incarnation, parties: parties, accounts: accounts, tenants: tenants}, nil
}

// knows reports whether the newest connection also leads to the incarnation.
func (s *Store) knows(incarnation string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cache != nil && s.cache.incarnation == incarnation
}

// cacheFor returns the cache of the incarnation. If it is a new one, nothing of the former one
// holds: API keys are purged, too, and idle connections are closed.
func (s *Store) cacheFor(incarnation string) (*cache, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cache != nil && s.cache.incarnation == incarnation {
		return s.cache, nil
	}
	fresh, err := newCache(incarnation)
	if err != nil {
		return nil, err
	}
	if s.cache != nil {
		s.keys.Purge()
		s.pool.Reset()
	}
	s.cache = fresh
	return fresh, nil
}

const selectTenantNames = `select id, name from tenants where id = any($1::integer[])`

// complete sets the parties, accounts and tenants of scanned payments. What is not cached is read
// in one round trip.
func (c *cache) complete(ctx context.Context, conn *pgx.Conn, s scanned) ([]payment.Payment, error) {
	parties, accounts := c.parties.name(s.parties), c.accounts.name(s.accounts)
	unnamed := c.nameTenants(s.payments)
	batch := &pgx.Batch{}
	parties.queue(batch)
	accounts.queue(batch)
	if len(unnamed) > 0 {
		batch.Queue(selectTenantNames, unnamed)
	}
	if batch.Len() > 0 {
		if err := c.readMissing(conn.SendBatch(ctx, batch), parties, accounts, len(unnamed) > 0); err != nil {
			return nil, err
		}
		c.nameTenants(s.payments)
	}
	for i := range s.payments {
		p := &s.payments[i]
		if p.Tenant.Name == "" {
			return nil, fmt.Errorf("payment %s: %w: its tenant %d is missing", p.ID, errCorrupt, p.Tenant.ID)
		}
		p.Originator, p.Beneficiary = parties.contents[2*i].party(), parties.contents[2*i+1].party()
		p.Sender, p.Receiver = accounts.contents[2*i].account(), accounts.contents[2*i+1].account()
	}
	return s.payments, nil
}

// nameTenants sets the tenants' names that are cached, and returns the ids of the others.
func (c *cache) nameTenants(payments []payment.Payment) (unnamed []int32) {
	for i := range payments {
		t := &payments[i].Tenant
		var ok bool
		t.Name, ok = c.tenants.Get(t.ID)
		if !ok {
			unnamed = append(unnamed, t.ID)
		}
	}
	return unnamed
}

// readMissing reads the results of the queries for what is not cached.
func (c *cache) readMissing(results pgx.BatchResults, parties, accounts *naming, tenants bool) error {
	err := parties.read(results)
	if err == nil {
		err = accounts.read(results)
	}
	if err == nil && tenants {
		err = c.readTenants(results)
	}
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	return translate(err)
}

// readTenants reads names of tenants and caches them.
func (c *cache) readTenants(results pgx.BatchResults) error {
	rows, err := results.Query()
	if err != nil {
		return err
	}
	var id int32
	var name string
	_, err = pgx.ForEachRow(rows, []any{&id, &name}, func() error {
		c.tenants.Add(id, name)
		return nil
	})
	return err
}
