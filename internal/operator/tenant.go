package operator

import (
	"context"
	"errors"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// DevelopmentKey returns the API key of demos. It is the same on every machine and public, so it
// guards nothing.
func DevelopmentKey() (payment.APIKey, error) {
	return payment.APIKeyOf("dev", "DevelopmentOnlyGuardsNothing0000")
}

// EnsureDevelopmentTenant creates a tenant with the development key, unless it exists, and reports
// whether it was created.
func EnsureDevelopmentTenant(ctx context.Context, s *store.Store, name string) (created bool, err error) {
	key, err := DevelopmentKey()
	if err != nil {
		return false, err
	}
	_, err = s.CreateTenant(ctx, name)
	created = err == nil
	if err != nil && !errors.Is(err, store.ErrTenantExists) {
		return false, err
	}
	if _, err := s.AddAPIKey(ctx, name, key); err != nil && !errors.Is(err, store.ErrKeyExists) {
		return created, err
	}
	return created, nil
}
