package app

import (
	"strings"
	"testing"

	"github.com/paylatch/paylatch/internal/operator"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/test/parts"
)

// TestService_DevelopmentKey: a process that takes payments warns at its start if the public
// development key is live, and only then.
func TestService_DevelopmentKey(t *testing.T) {
	t.Parallel()
	database, err := store.Open(t.Context(), parts.Postgres(t), 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(database.Close)
	warns := func() bool {
		t.Helper()
		var log strings.Builder
		s := &Service{store: database, logger: NewLogger(&log, 0)}
		if err := s.warnOfDevelopmentKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		return strings.Contains(log.String(), `"level":"WARN","msg":"development key is live`)
	}
	if warns() {
		t.Error("got a warning without the key, want none")
	}
	if _, err := database.MarkTestInstallation(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := operator.EnsureDevelopmentTenant(t.Context(), database, "demo"); err != nil {
		t.Fatal(err)
	}
	if !warns() {
		t.Error("got no warning, want one: the key is live")
	}
	if err := database.RevokeAPIKey(t.Context(), "demo", 1); err != nil {
		t.Fatal(err)
	}
	if warns() {
		t.Error("got a warning after the key was revoked, want none")
	}
}
