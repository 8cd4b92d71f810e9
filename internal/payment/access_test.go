package payment

import "testing"

// TestScopes: a list of scopes is read as it is written, in any order, and a scope that does not
// exist is refused. No text means no scope.
func TestScopes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"payments:create": "payments:create", "payments:read": "payments:read",
		"payments:create,payments:read": "payments:create,payments:read",
		"payments:read,payments:create": "payments:create,payments:read",
	} {
		var s Scopes
		if err := s.UnmarshalText([]byte(text)); err != nil || s.String() != want {
			t.Errorf("%s: got %s and error %v, want %s", text, s, err, want)
		}
		for _, scope := range []Scope{ScopeCreate, ScopeRead} {
			if got, want := s.Has(scope), len(s.Names()) == 2 || s.String() == string(scope); got != want {
				t.Errorf("%s has %s: got %t, want %t", text, scope, got, want)
			}
		}
	}
	for _, text := range []string{
		"", "payments", "payments:create,", "payments:create payments:read", "Payments:read",
	} {
		if err := new(Scopes).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is accepted, want an error", text)
		}
	}
	if (Scopes{}).Has(ScopeCreate) || (Scopes{}).Has("") || AllScopes.Has("payments:delete") {
		t.Error("got a scope that was not given")
	}
}

// TestAPIKey_IsTest: the environment in a key's name says whether it is a test key.
func TestAPIKey_IsTest(t *testing.T) {
	t.Parallel()
	for env, want := range map[string]bool{"test": true, "dev": true, "live": false, "test1": false, "prod": false} {
		key, err := NewAPIKey(env)
		if err != nil {
			t.Fatal(err)
		}
		if got := key.IsTest(); got != want {
			t.Errorf("a key of environment %s is a test key: got %t, want %t", env, got, want)
		}
	}
}
