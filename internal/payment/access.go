package payment

import (
	"fmt"
	"slices"
	"strings"
)

// Access is what a live API key gives access to.
type Access struct {
	Tenant Tenant
	// KeyID identifies the key to operators.
	KeyID  int32
	Scopes Scopes
	// TestInstallation reports whether the installation is marked as one in which test keys work.
	TestInstallation bool
}

// Scope is something that a key may be used for.
type Scope string

// All scopes. Their names are in the database and in the contract.
const (
	ScopeCreate Scope = "payments:create"
	ScopeRead   Scope = "payments:read"
)

// Scopes are the scopes of a key. The zero value has none.
type Scopes struct{ Create, Read bool }

// AllScopes are those of a key that is not restricted.
var AllScopes = Scopes{Create: true, Read: true}

// Has reports whether the scope is one of s.
func (s Scopes) Has(scope Scope) bool {
	return scope == ScopeCreate && s.Create || scope == ScopeRead && s.Read
}

// Names returns the scopes as the database and the contract name them.
func (s Scopes) Names() []string {
	var names []string
	for _, scope := range []Scope{ScopeCreate, ScopeRead} {
		if s.Has(scope) {
			names = append(names, string(scope))
		}
	}
	return names
}

// String returns the names, separated by commas.
func (s Scopes) String() string { return strings.Join(s.Names(), ",") }

// UnmarshalText implements encoding.TextUnmarshaler. It reads what String returns. There must be
// one scope at least.
func (s *Scopes) UnmarshalText(text []byte) error {
	names := strings.Split(string(text), ",")
	*s = Scopes{Create: slices.Contains(names, string(ScopeCreate)), Read: slices.Contains(names, string(ScopeRead))}
	for _, name := range names {
		if scope := Scope(name); scope != ScopeCreate && scope != ScopeRead {
			return fmt.Errorf("%.40q is no scope: they are %s", name, AllScopes)
		}
	}
	return nil
}
