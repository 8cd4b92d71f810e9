package store

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/paylatch/paylatch/internal/payment"
)

// selectLiveKeys finds the live ones of some keys.
const selectLiveKeys = `select k.hash, t.id, t.name, t.salt from api_keys k join tenants t on t.id = k.tenant_id
	where k.hash = any($1::bytea[]) and k.revoked_at is null`

// Authenticate returns what a live key gives access to, or payment.ErrUnauthorized. Keys in use are
// queried ahead of time, so that requests do not wait for the database. A revoked key stops working
// within keycache.TTL. If the database is away, a key that is not cached leads to
// payment.ErrUnavailable, and so does one that is not cached while keycache.UnknownMax others wait
// for the database.
func (s *Store) Authenticate(ctx context.Context, key payment.APIKeyHash) (payment.Access, error) {
	return s.keys.Access(ctx, key)
}

// lookUpKeys implements keycache.Lookup.
func (s *Store) lookUpKeys(ctx context.Context, keys []payment.APIKeyHash) (map[payment.APIKeyHash]payment.Access,
	error,
) {
	hashes := make([][]byte, len(keys))
	for i := range keys {
		hashes[i] = keys[i][:]
	}
	rows, err := s.pool.Query(ctx, selectLiveKeys, hashes)
	if err != nil {
		return nil, translate(err)
	}
	found := make(map[payment.APIKeyHash]payment.Access)
	var hash, salt []byte
	var access payment.Access
	t := &access.Tenant
	_, err = pgx.ForEachRow(rows, []any{&hash, &t.ID, &t.Name, &salt}, func() error {
		copy(t.Salt[:], salt)
		found[payment.APIKeyHash(hash)] = access
		return nil
	})
	return found, translate(err)
}

func scanTenant(row pgx.Row) (payment.Tenant, error) {
	var t payment.Tenant
	var salt []byte
	if err := row.Scan(&t.ID, &t.Name, &salt); err != nil {
		return payment.Tenant{}, err
	}
	copy(t.Salt[:], salt)
	return t, nil
}

// Errors of operators' commands about tenants and keys.
var (
	ErrTenantExists = errors.New("a tenant of this name exists already")
	ErrNoTenant     = errors.New("no tenant of this name")
	ErrNoAPIKey     = errors.New("the tenant has no live key of this id")
	ErrKeyExists    = errors.New("this API key exists already")
)

const insertTenant = `insert into tenants (name, salt) values ($1, $2) returning id, name, salt`

// CreateTenant creates a tenant with a salt of its own. On record once it returns nil. It returns
// ErrTenantExists, or an error that says what is wrong with the name.
func (s *Store) CreateTenant(ctx context.Context, name string) (payment.Tenant, error) {
	if err := payment.CheckTenantName(name); err != nil {
		return payment.Tenant{}, err
	}
	var salt payment.Salt
	_, _ = rand.Read(salt[:]) // Never fails: crypto/rand ends the process instead.
	var t payment.Tenant
	err := s.changeLogged(ctx, func(tx pgx.Tx) (c Change, err error) {
		t, err = scanTenant(tx.QueryRow(ctx, insertTenant, name, salt[:]))
		return Change{Action: "tenants create", Arguments: tenantArguments{Tenant: name}, After: tenantState{t.ID}}, err
	})
	if violates(err, "tenants_name_is_unique") {
		return payment.Tenant{}, ErrTenantExists
	}
	return t, err
}

// tenantArguments and tenantState describe changes of tenants and keys in the operator's log.
type (
	tenantArguments struct {
		Tenant string `json:"tenant"`
		Key    int32  `json:"key,omitempty"`
	}
	tenantState struct {
		TenantID int32 `json:"tenant_id"`
	}
	keyState struct {
		Key  int32 `json:"key"`
		Live bool  `json:"live"`
	}
)

const insertAPIKey = `insert into api_keys (tenant_id, hash, hint) select id, $2, $3 from tenants where name = $1
	returning id`

// AddAPIKey adds a live key to the tenant's keys, and returns the id by which it can be revoked. On
// record once it returns nil. It returns ErrNoTenant or ErrKeyExists.
func (s *Store) AddAPIKey(ctx context.Context, tenant string, key payment.APIKey) (int32, error) {
	hash := key.Hash()
	var id int32
	err := s.changeLogged(ctx, func(tx pgx.Tx) (Change, error) {
		err := tx.QueryRow(ctx, insertAPIKey, tenant, hash[:], key.Hint()).Scan(&id)
		c := Change{Action: "tenants add-key", Arguments: tenantArguments{Tenant: tenant}, After: keyState{id, true}}
		return c, err
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, ErrNoTenant
	case violates(err, "api_keys_hash_is_unique"):
		return 0, ErrKeyExists
	}
	return id, err
}

// revokeAPIKey ends a key even if the server's clock has been set back since the key was created.
const revokeAPIKey = `update api_keys k set revoked_at = greatest(now(), k.created_at) from tenants t
	where k.tenant_id = t.id and t.name = $1 and k.id = $2 and k.revoked_at is null`

// RevokeAPIKey ends a key. Every replica refuses it within 5 s.
func (s *Store) RevokeAPIKey(ctx context.Context, tenant string, id int32) error {
	err := s.changeLogged(ctx, func(tx pgx.Tx) (Change, error) {
		revoked, err := tx.Exec(ctx, revokeAPIKey, tenant, id)
		if err == nil && revoked.RowsAffected() == 0 {
			err = errUnchanged
		}
		return Change{
			Action: "tenants revoke-key", Arguments: tenantArguments{tenant, id},
			Before: keyState{id, true}, After: keyState{id, false},
		}, err
	})
	if errors.Is(err, errUnchanged) {
		return ErrNoAPIKey
	}
	return err
}

// APIKeyInfo is what may be shown of a key. KeyID is 0 for a tenant without keys.
type APIKeyInfo struct {
	Tenant    string
	KeyID     int32
	Hint      string
	CreatedAt time.Time
	RevokedAt *time.Time
}

const selectAPIKeys = `select t.name, coalesce(k.id, 0), coalesce(k.hint, ''), coalesce(k.created_at, t.created_at),
	k.revoked_at
	from tenants t left join api_keys k on k.tenant_id = t.id order by t.name, k.id`

// Tenants lists the tenants with their keys, one element for each key.
func (s *Store) Tenants(ctx context.Context) ([]APIKeyInfo, error) {
	rows, err := s.pool.Query(ctx, selectAPIKeys)
	if err != nil {
		return nil, translate(err)
	}
	infos, err := pgx.CollectRows(rows, pgx.RowToStructByPos[APIKeyInfo])
	return infos, translate(err)
}

// violates reports whether err is a violation of the named constraint.
func violates(err error, constraint string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.ConstraintName == constraint
}
