package payment

import (
	"fmt"
	"io"
	"log/slog"
	"regexp"
)

// TenantRef identifies a tenant.
type TenantRef struct {
	// ID is the key of its row.
	ID int32
	// Name is in each event.
	Name string
}

// Tenant is a customer of the installation. Payments, keys, parties and accounts belong to one.
type Tenant struct {
	TenantRef
	Salt Salt
}

// Format implements fmt.Formatter; see Party.
func (t Tenant) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, "tenant "+t.Name) }

// Salt is 256 random bits of a tenant, from which ids are derived; see DeriveID. It masks itself
// when it is printed, since ids can be computed from salt and key.
type Salt [32]byte

// Format implements fmt.Formatter.
func (Salt) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, mask) }

// LogValue implements slog.LogValuer.
func (Salt) LogValue() slog.Value { return slog.StringValue(mask) }

// MarshalText implements encoding.TextMarshaler, which JSON encoders use.
func (Salt) MarshalText() ([]byte, error) { return []byte(mask), nil }

// tenantName is the form of a tenant's name. It is used in event headers, logs and command lines.
var tenantName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// CheckTenantName returns an error if s is not a valid name of a tenant.
func CheckTenantName(s string) error {
	if !tenantName.MatchString(s) {
		return fmt.Errorf("tenant name %q: must be 1 to 63 lower-case letters, digits and hyphens, "+
			"and begin with a letter or digit", s)
	}
	return nil
}
