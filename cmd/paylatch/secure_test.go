package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/test/parts"
)

// TestSecureDatabase: each command works on a database that takes TLS with a verified server only,
// with the password in a file, and none shows it.
func TestSecureDatabase(t *testing.T) {
	t.Parallel()
	server := parts.OwnSecurePostgres(t)
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(server.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	database := []string{"--database-url", server.URL(), "--database-password-file", file}
	brokers := []string{"--kafka-brokers", parts.Kafka(t)}
	for _, row := range []struct {
		command string
		flags   []string
	}{
		{"setup --partitions 2 --tenant acme --topic " + parts.Topic(), append(database, brokers...)},
		{"migrate status", database},
		{"tenants add-key acme", database},
		{"tenants list", database},
		{"partitions list", database},
		{"partitions halt 1 --reason test", database},
		{"partitions resume 1", append(database, brokers...)},
		{"partitions mode locked", append(database, brokers...)},
		{"verify", append(database, brokers...)},
		{"storage", database},
	} {
		code, stdout, stderr := runCommand(t, append(strings.Fields(row.command), row.flags...)...)
		if code != 0 || strings.Contains(stdout+stderr, server.Password) || strings.Contains(stderr, "warning") {
			t.Errorf("%s: got %d, %s%s; want 0 without the password or a warning", row.command, code, stdout, stderr)
		}
	}
	code, _, stderr := runCommand(t, "tenants", "list", "--database-url", server.URL())
	if code != 1 || !strings.Contains(stderr, "password") {
		t.Errorf("without a password: got %d and %s, want 1 and the reason", code, stderr)
	}
}
