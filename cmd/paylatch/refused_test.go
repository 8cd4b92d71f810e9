package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/test/parts"
)

// TestRefused_Encoding: every program that would store or read text refuses a database in another
// encoding than UTF-8, and says what to do.
func TestRefused_Encoding(t *testing.T) {
	url := parts.EmptyPostgresAs(t, ` encoding 'LATIN1' lc_collate 'C' lc_ctype 'C' template template0`)
	t.Setenv("PAYLATCH_DATABASE_URL", url)
	t.Setenv("PAYLATCH_KAFKA_BROKERS", "127.0.0.1:1")
	t.Setenv("PAYLATCH_LISTEN", "127.0.0.1:0")
	t.Setenv("PAYLATCH_ADMIN_LISTEN", "127.0.0.1:0")
	const want = "its encoding is LATIN1, and text would be changed: create a database with encoding UTF8"
	for _, args := range []string{
		"setup", "setup --tenant acme", "migrate up", "migrate status", "api", "serve", "sender", "verify", "storage",
		"tenants create acme", "partitions init", "partitions list",
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), strings.Fields(args), &stdout, &stderr)
		if code != 1 || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: got exit code %d and %s, want 1 and that %s", args, code, &stderr, want)
		}
	}
}
