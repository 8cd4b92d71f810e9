package operator

import (
	"context"
	"fmt"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// DevelopmentKey returns the API key of demos. It is the same on every machine and public, so it
// guards nothing.
func DevelopmentKey() (payment.APIKey, error) {
	return payment.APIKeyOf("dev", "DevelopmentOnlyGuardsNothing0000")
}

// EnsureDevelopmentTenant creates a tenant with the development key, unless it exists, and reports
// whether it was created. Only in a test installation; see store.EnsureTestTenant.
func EnsureDevelopmentTenant(ctx context.Context, s *store.Store, name string) (created bool, err error) {
	key, err := DevelopmentKey()
	if err != nil {
		return false, err
	}
	created, err = s.EnsureTestTenant(ctx, name, key)
	if err != nil {
		return false, fmt.Errorf("tenant %q, development key: %w", name, err)
	}
	return created, nil
}
