package payment

import (
	"fmt"
	"io"
	"log/slog"
	"regexp"
)

// TenantRef names a tenant: by its row and by the name that events carry.
type TenantRef struct {
	ID   int32
	Name string
}

// Tenant is a customer of the installation; payments, keys, parties and accounts belong to one.
type Tenant struct {
	TenantRef
	Salt Salt
}

// Format implements fmt.Formatter; see Party.
func (t Tenant) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, "tenant "+t.Name) }

// Salt is a tenant's 256 random bits; ids are derived under it. It masks itself when printed: whoever knows salt and key can compute ids.
type Salt [32]byte

// Format implements fmt.Formatter.
func (Salt) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, mask) }

// LogValue implements slog.LogValuer.
func (Salt) LogValue() slog.Value { return slog.StringValue(mask) }

// MarshalText implements encoding.TextMarshaler, which is what JSON encoders use.
func (Salt) MarshalText() ([]byte, error) { return []byte(mask), nil }

// tenantName is the form of a tenant's name: it stands in event headers, logs and on command lines.
var tenantName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// CheckTenantName tells whether s can name a tenant.
func CheckTenantName(s string) error {
	if !tenantName.MatchString(s) {
		return fmt.Errorf("tenant name %q: must be 1 to 63 lower-case letters, digits and hyphens, and begin with a letter or digit", s)
	}
	return nil
}
