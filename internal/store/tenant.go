package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/paylatch/paylatch/internal/payment"
)

// selectLiveKeys finds the live ones of some keys. It begins with the keys, whatever the statistics
// say: a subquery with an offset is no part of the order that PostgreSQL chooses.
const selectLiveKeys = `select k.hash, t.id, t.name, t.salt, k.id, 'payments:create' = any(k.scopes),
		'payments:read' = any(k.scopes), exists (select from test_installation)
	from api_keys k
		cross join lateral (select id, name, salt from tenants where id = k.tenant_id offset 0) t
		left join lateral (select disabled_at from tenant_settings where tenant_id = k.tenant_id offset 0) s on true
	where k.hash = any($1::bytea[]) and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())
	and s.disabled_at is null`

// Authenticate returns what a live key gives access to, or payment.ErrUnauthorized. Keys in use are
// queried ahead of time, so that requests do not wait for the database. A key that was revoked or
// has expired, or whose tenant was disabled, stops working within keycache.TTL.
//
// A key that is not cached leads to payment.ErrUnavailable if the database is away, or if
// keycache.UnknownMax others wait for it.
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
	columns := []any{
		&hash, &t.ID, &t.Name, &salt,
		&access.KeyID, &access.Scopes.Create, &access.Scopes.Read, &access.TestInstallation,
	}
	_, err = pgx.ForEachRow(rows, columns, func() error {
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
const (
	ErrTenantExists = operatorError("a tenant of this name exists already")
	ErrNoTenant     = operatorError("no tenant of this name")
	ErrNoAPIKey     = operatorError("the tenant has no live key of this id")
	ErrKeyExists    = operatorError("this API key exists already")
	ErrKeyExpired   = operatorError("the API key would have ended already")
	ErrTestKey      = operatorError("a test key works only in a test installation (paylatch setup --test-installation)")
)

const insertTenant = `insert into tenants (name, salt) values ($1, $2) returning id, name, salt`

// CreateTenant creates a tenant with a salt of its own. On record once it returns nil. It returns
// ErrTenantExists, or an error that says what is wrong with the name.
func (s *Store) CreateTenant(ctx context.Context, name string) (payment.Tenant, error) {
	if err := payment.CheckTenantName(name); err != nil {
		return payment.Tenant{}, err
	}
	salt := newSalt()
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
		// Scopes and ExpiresAt are the terms of a new key.
		Scopes    []string   `json:"scopes,omitempty"`
		ExpiresAt *time.Time `json:"expires_at,omitempty"`
	}
)

func newSalt() (salt payment.Salt) {
	_, _ = rand.Read(salt[:]) // Never fails: crypto/rand ends the process instead.
	return salt
}

// APIKeyTerms are what a key is for, and until when. The zero value has no scope.
type APIKeyTerms struct {
	Scopes payment.Scopes
	// ExpiresAt is when the key ends, if it is not zero. ExpiresAfter is the time until then, by
	// PostgreSQL's clock, if it is not zero. At most one of the two is given.
	ExpiresAt    time.Time
	ExpiresAfter time.Duration
	// Note is for operators, of at most 200 characters.
	Note string
}

// Unrestricted are the terms of a key for all operations and without an end.
var Unrestricted = APIKeyTerms{Scopes: payment.AllScopes}

const insertAPIKey = `insert into api_keys (tenant_id, hash, hint, scopes, expires_at, note)
	select id, $2, $3, $4, coalesce($5, now() + $6::interval), $7 from tenants where name = $1
	returning id, expires_at`

// AddAPIKey adds a live key to the tenant's keys, and returns the id by which it can be revoked. On
// record once it returns nil. It returns ErrNoTenant, ErrKeyExists, ErrKeyExpired, or ErrTestKey.
func (s *Store) AddAPIKey(ctx context.Context, tenant string, key payment.APIKey, terms APIKeyTerms) (int32, error) {
	var id int32
	err := s.changeLogged(ctx, func(tx pgx.Tx) (c Change, err error) {
		id, c, err = addAPIKey(ctx, tx, tenant, key, terms)
		return c, err
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, ErrNoTenant
	case violates(err, "api_keys_hash_is_unique"):
		return 0, ErrKeyExists
	case violates(err, "api_keys_expires_after_created"):
		return 0, ErrKeyExpired
	}
	return id, err
}

// addAPIKey adds a key within a transaction. It returns ErrTestKey for a test key that would not
// work.
func addAPIKey(ctx context.Context, tx pgx.Tx, tenant string, key payment.APIKey, terms APIKeyTerms) (id int32,
	change Change, err error,
) {
	if key.IsTest() {
		marked, err := isTestInstallation(ctx, tx)
		if err != nil || !marked {
			return 0, change, cmp.Or(err, error(ErrTestKey))
		}
	}
	hash := key.Hash()
	var at pgtype.Timestamptz
	var after pgtype.Interval
	if !terms.ExpiresAt.IsZero() {
		at = pgtype.Timestamptz{Time: terms.ExpiresAt, Valid: true}
	}
	if terms.ExpiresAfter != 0 {
		after = pgtype.Interval{Microseconds: terms.ExpiresAfter.Microseconds(), Valid: true}
	}
	state := keyState{Live: true, Scopes: terms.Scopes.Names()}
	err = tx.QueryRow(ctx, insertAPIKey, tenant, hash[:], key.Hint(), state.Scopes, at, after, terms.Note).
		Scan(&id, &state.ExpiresAt)
	state.Key = id
	change = Change{Action: "tenants add-key", Arguments: tenantArguments{Tenant: tenant}, After: state}
	if key.IsCertificate() {
		change.Action = "tenants add-certificate"
	}
	return id, change, err
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
			Before: keyState{Key: id, Live: true}, After: keyState{Key: id, Live: false},
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
	Scopes    []string
	CreatedAt time.Time
	ExpiresAt *time.Time
	// Expired reports whether the key has ended by PostgreSQL's clock.
	Expired bool
	// LastUsedAt is to the minute. It is nil for a key that was not used.
	LastUsedAt *time.Time
	RevokedAt  *time.Time
	Note       string
	// DisabledAt is when the tenant was disabled. It is nil for a tenant that is not.
	DisabledAt *time.Time
}

const selectAPIKeys = `select t.name, coalesce(k.id, 0), coalesce(k.hint, ''), coalesce(k.scopes, '{}'),
		coalesce(k.created_at, t.created_at), k.expires_at, coalesce(k.expires_at <= now(), false), k.last_used_at,
		k.revoked_at, coalesce(k.note, ''), s.disabled_at
	from tenants t left join api_keys k on k.tenant_id = t.id left join tenant_settings s on s.tenant_id = t.id
	order by t.name, k.id`

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
