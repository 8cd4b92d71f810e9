package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/payment"
)

const selectIsTestInstallation = `select exists (select from test_installation)`

// isTestInstallation reports whether the installation is marked as a test installation.
func isTestInstallation(ctx context.Context, tx pgx.Tx) (marked bool, err error) {
	err = tx.QueryRow(ctx, selectIsTestInstallation).Scan(&marked)
	return marked, err
}

// ErrHasLiveKeys means that an installation has keys that are no test keys.
const ErrHasLiveKeys = operatorError("the installation has live keys that are no test keys: revoke them first, " +
	"or use another installation for tests")

const (
	selectHasLiveKeys = `select exists (select from api_keys where revoked_at is null
	and hint not like 'pl\_test\_%' and hint not like 'pl\_dev\_%')`
	markTestInstallation   = `insert into test_installation default values on conflict do nothing`
	unmarkTestInstallation = `delete from test_installation`
)

// installationState is the state of an installation in the operator's log.
type installationState struct {
	Test bool `json:"test"`
}

// MarkTestInstallation marks the installation as one in which test keys work. changed is false if
// it was marked already. It returns ErrHasLiveKeys if there are other live keys: then the
// installation may be one for real payments.
func (s *Store) MarkTestInstallation(ctx context.Context) (changed bool, err error) {
	c := Change{Action: "setup test-installation", Before: installationState{false}, After: installationState{true}}
	return reportUnchanged(s.changeLogged(ctx, func(tx pgx.Tx) (Change, error) {
		marked, err := isTestInstallation(ctx, tx)
		if err != nil || marked {
			return c, cmp.Or(err, errUnchanged)
		}
		var live bool
		if err := tx.QueryRow(ctx, selectHasLiveKeys).Scan(&live); err != nil {
			return c, err
		}
		if live {
			return c, ErrHasLiveKeys
		}
		return c, changesRow(tx.Exec(ctx, markTestInstallation))
	}))
}

// UnmarkTestInstallation takes the mark back. Every replica refuses test keys within 5 s. changed
// is false if the installation was not marked.
func (s *Store) UnmarkTestInstallation(ctx context.Context) (changed bool, err error) {
	c := Change{Action: "setup no-test-installation", Before: installationState{true}, After: installationState{false}}
	return reportUnchanged(s.changeLogged(ctx, func(tx pgx.Tx) (Change, error) {
		return c, changesRow(tx.Exec(ctx, unmarkTestInstallation))
	}))
}

// Errors of EnsureTestTenant.
const (
	ErrKeyOfAnother = operatorError("the key belongs to another tenant")
	ErrKeyRevoked   = operatorError("the key was revoked")
	ErrHasOtherKeys = operatorError("the tenant has other live keys")
)

const (
	insertTenantUnlessExists = `insert into tenants (name, salt) values ($1, $2) on conflict (name) do nothing`
	selectOwnerOfKey         = `select t.name, k.revoked_at is not null from api_keys k join tenants t
	on t.id = k.tenant_id where k.hash = $1`
	selectTenantHasLiveKeys = `select exists (select from api_keys k join tenants t on t.id = k.tenant_id
	where t.name = $1 and k.revoked_at is null)`
)

// EnsureTestTenant creates a tenant with a given test key, unless it exists with that key. created
// is false if nothing was changed. Only in a test installation; else it returns ErrTestKey. It
// returns ErrHasOtherKeys for a tenant with other live keys, ErrKeyOfAnother, or ErrKeyRevoked.
func (s *Store) EnsureTestTenant(ctx context.Context, name string, key payment.APIKey) (created bool, err error) {
	if err := payment.CheckTenantName(name); err != nil {
		return false, err
	}
	created, err = reportUnchanged(s.changeLogged(ctx, func(tx pgx.Tx) (Change, error) {
		marked, err := isTestInstallation(ctx, tx)
		if err != nil || !marked {
			return Change{}, cmp.Or(err, error(ErrTestKey))
		}
		found, err := hasKey(ctx, tx, name, key)
		if err != nil || found {
			return Change{}, cmp.Or(err, errUnchanged)
		}
		return addTestTenant(ctx, tx, name, key)
	}))
	if violates(err, "api_keys_hash_is_unique") { // Another process has just done it.
		return false, ErrKeyExists
	}
	return created, err
}

// addTestTenant adds the key to a tenant without live keys, which it creates unless it exists.
func addTestTenant(ctx context.Context, tx pgx.Tx, name string, key payment.APIKey) (Change, error) {
	salt := newSalt()
	if _, err := tx.Exec(ctx, insertTenantUnlessExists, name, salt[:]); err != nil {
		return Change{}, err
	}
	var others bool
	if err := tx.QueryRow(ctx, selectTenantHasLiveKeys, name).Scan(&others); err != nil {
		return Change{}, err
	}
	if others {
		return Change{}, ErrHasOtherKeys
	}
	_, c, err := addAPIKey(ctx, tx, name, key, Unrestricted)
	c.Action = "setup development-key"
	return c, err
}

// hasKey reports whether the tenant has the key. It is an error if another tenant has it, or if it
// was revoked.
func hasKey(ctx context.Context, tx pgx.Tx, tenant string, key payment.APIKey) (bool, error) {
	hash := key.Hash()
	var owner string
	var revoked bool
	switch err := tx.QueryRow(ctx, selectOwnerOfKey, hash[:]).Scan(&owner, &revoked); {
	case errors.Is(err, pgx.ErrNoRows):
		return false, nil
	case err != nil:
		return false, err
	case owner != tenant:
		return false, fmt.Errorf("%w, %s", ErrKeyOfAnother, owner)
	case revoked:
		return false, ErrKeyRevoked
	}
	return true, nil
}

// HasLiveKey reports whether the key is live. It does not count as a use of the key.
func (s *Store) HasLiveKey(ctx context.Context, key payment.APIKey) (bool, error) {
	found, err := s.lookUpKeys(ctx, []payment.APIKeyHash{key.Hash()})
	return len(found) > 0, err
}
