package store

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	selectTenantIDByName = `select id from tenants where name = $1`
	disableTenant        = `insert into tenant_settings as s (tenant_id, disabled_at) values ($1, now())
	on conflict (tenant_id) do update set disabled_at = now() where s.disabled_at is null`
	enableTenant = `update tenant_settings set disabled_at = null where tenant_id = $1 and disabled_at is not null`
)

// tenantEnabled is the state of a tenant in the operator's log.
type tenantEnabled struct {
	Enabled bool `json:"enabled"`
}

// DisableTenant has all keys of the tenant refused, by every replica within 5 s. Its payments that
// were taken are sent. changed is false if it was disabled already. It returns ErrNoTenant.
func (s *Store) DisableTenant(ctx context.Context, name string) (changed bool, err error) {
	c := Change{Action: "tenants disable", Before: tenantEnabled{true}, After: tenantEnabled{false}}
	return s.changeTenant(ctx, name, c, disableTenant)
}

// EnableTenant has the live keys of a disabled tenant accepted again. changed is false if it was
// not disabled. It returns ErrNoTenant.
func (s *Store) EnableTenant(ctx context.Context, name string) (changed bool, err error) {
	c := Change{Action: "tenants enable", Before: tenantEnabled{false}, After: tenantEnabled{true}}
	return s.changeTenant(ctx, name, c, enableTenant)
}

// changeTenant executes an operator's statement for a tenant, whose id is its first parameter, and
// reports whether it changed a row. If not, the operator's log has no row. It returns ErrNoTenant.
func (s *Store) changeTenant(ctx context.Context, name string, c Change, sql string, args ...any) (bool, error) {
	c.Arguments = tenantArguments{Tenant: name}
	return reportUnchanged(s.changeLogged(ctx, func(tx pgx.Tx) (Change, error) {
		var id int32
		err := tx.QueryRow(ctx, selectTenantIDByName, name).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			return c, ErrNoTenant
		}
		if err != nil {
			return c, err
		}
		return c, changesRow(tx.Exec(ctx, sql, append([]any{id}, args...)...))
	}))
}

// changesRow returns errUnchanged if a statement changed no row.
func changesRow(tag pgconn.CommandTag, err error) error {
	if err == nil && tag.RowsAffected() == 0 {
		return errUnchanged
	}
	return err
}

// reportUnchanged reports whether something was changed. errUnchanged is no error then.
func reportUnchanged(err error) (changed bool, other error) {
	if errors.Is(err, errUnchanged) {
		return false, nil
	}
	return err == nil, err
}
