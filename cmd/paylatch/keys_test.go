package main

import (
	"strings"
	"testing"

	"github.com/paylatch/paylatch/test/parts"
)

// commandRow is a command line, and what must come of it.
type commandRow struct {
	args []string
	code int
	want string
}

// wantCommands runs command lines in order, each with flags.
func wantCommands(t *testing.T, flags []string, rows []commandRow) {
	t.Helper()
	for i, row := range rows {
		code, stdout, stderr := runCommand(t, append(row.args, flags...)...)
		if code != row.code || !strings.Contains(stdout+stderr, row.want) {
			t.Errorf("%d, %q: got code %d and %s%s; want %d and %q", i, row.args, code, stdout, stderr, row.code,
				row.want)
		}
	}
}

// TestSetup_Development: the development key goes to one tenant of a test installation, which has
// no other keys then.
func TestSetup_Development(t *testing.T) {
	t.Parallel()
	flags := []string{
		"--database-url", parts.EmptyPostgres(t), "--kafka-brokers", parts.Kafka(t), "--topic", parts.Topic(),
	}
	const mark = "--test-installation"
	wantCommands(t, flags, []commandRow{
		{[]string{"setup", mark}, 0, "test installation: marked\n"},
		{[]string{"setup", mark}, 0, "test installation: marked before, nothing was changed"},
		{[]string{"setup", "--tenant", "dev", "--development-key"}, 0, "tenant dev with the development key: created"},
		{[]string{"setup", "--tenant", "dev", "--development-key"}, 0, "development key: found, nothing was changed"},
		{[]string{"setup", "--tenant", "acme"}, 0, "tenant acme key 2, shown this once: pl_live_"},
		{[]string{"setup", mark, "--tenant", "acme", "--development-key"}, 1, "belongs to another tenant, dev"},
		{[]string{"setup", "--no-test-installation"}, 0, "test installation: unmarked\n"},
		{[]string{"setup", "--tenant", "dev", "--development-key"}, 1, "works only in a test installation"},
	})
}

// TestTenants_Keys: keys with scopes, an end and a note, and what list shows of them. All faults of
// a command line are reported together.
func TestTenants_Keys(t *testing.T) {
	t.Parallel()
	const wrong = "payments:delete"
	wantCommands(t, []string{"--database-url", parts.Postgres(t)}, []commandRow{
		{[]string{"tenants", "create", "acme"}, 0, "tenant acme key 1, shown this once: pl_live_"},
		{
			[]string{
				"tenants", "add-key", "acme", "--scope", "payments:read", "--expires", "90d", "--note", "für Berichte",
			},
			0, "tenant acme key 2, shown this once: pl_live_",
		},
		{[]string{"tenants", "add-key", "acme", "--expires", "2020-01-01"}, 1, "would have ended already"},
		{[]string{"tenants", "add-key", "acme", "--env", "test"}, 1, "works only in a test installation"},
		{[]string{"tenants", "add-key", "acme", "--scope", wrong}, 2, "--scope: \"payments:delete\" is no scope"},
		{[]string{"tenants", "add-key", "acme", "--expires", "soon"}, 2, "--expires: \"soon\" is no date"},
		{[]string{"tenants", "add-key", "acme", "--note", strings.Repeat("x", 201)}, 2, "--note: must be UTF-8"},
		{[]string{"tenants", "disable", "nobody"}, 1, "no tenant of this name"},
		{[]string{"tenants", "disable", "acme"}, 0, "tenant acme: disabled; every replica refuses its keys within 5 s"},
		{[]string{"tenants", "disable", "acme"}, 0, "tenant acme: found so, nothing was changed"},
		{[]string{"tenants", "list"}, 0, "tenant disabled"},
		{[]string{"tenants", "enable", "acme"}, 0, "tenant acme: enabled"},
		{[]string{"tenants", "list"}, 0, "payments:read  "},
		{[]string{"tenants", "list"}, 0, "für Berichte"},
	})
}

// TestExpiry: the forms of an end, and what is refused.
func TestExpiry(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"2027-01-31", "2027-01-31T12:00:00Z", "2027-01-31T12:00:00+02:00", "90d", "12h", "36500d",
	} {
		if err := new(expiry).UnmarshalText([]byte(text)); err != nil {
			t.Errorf("%s is refused: %v", text, err)
		}
	}
	for _, text := range []string{
		"", "soon", "0d", "-1d", "-1h", "0s", "36501d", "2027-02-30", "2027-01-31 12:00", "1.5d",
	} {
		if err := new(expiry).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is accepted, want an error", text)
		}
	}
}
