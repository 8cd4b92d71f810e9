package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/migrations"
	"github.com/paylatch/paylatch/test/parts"
)

// services are commands that run until they are stopped, and change nothing that an operator must
// decide.
var services = []string{"serve", "api", "sender"}

// anyCode stands for any exit code of a command.
const anyCode = -1

// step is a command line and the rows that it must write to the operator's log, each as summary
// describes it.
type step struct {
	command string
	args    []string
	code    int
	want    []string
}

// resumed are the two rows of a resumption: begun, and ended with the state after it.
func resumed(arguments, after string) []string {
	const halted = `{"state":"halted","topic_id":"ID","next_offset":0,"delivery":"fenced"}`
	return []string{
		"partitions resume begun " + arguments + " " + halted + " null",
		"partitions resume ended succeeded " + arguments + " " + halted + " " + after,
	}
}

// steps use each command of the program, on one installation. Each command that changes something
// is also called in vain, when it must write nothing.
func steps(topic string) []step {
	const (
		leaked  = "ask Yolanda Quist about DE89370400440532013000"
		changed = `{"state":"halted"}`
		halted  = `partitions halt done {"partition":1} {"state":"active","since":"TIME"} ` + changed
		state   = `{"state":"active","topic_id":"ID","next_offset":0,"delivery":`
		// bothScopes are the terms of a key that is not restricted.
		bothScopes = `"scopes":["payments:create","payments:read"]`
		tail       = `,"tail":{"marked":0,"restored":0,"repeated":0,"unexpected":0}`
	)
	topicArguments := `{"topic":"` + topic + `","partitions":2,"delivery":"fenced"}`
	grown := `{"topic":"` + topic + `","partitions":3}`
	toLocked := func(partition int) []string {
		arguments := fmt.Sprintf(`{"partition":%d,"delivery":"locked"}`, partition)
		const before = state + `"fenced"}`
		return []string{
			"partitions mode begun " + arguments + " " + before + " null",
			"partitions mode ended succeeded " + arguments + " " + before + " " + state + `"locked"` + tail + "}",
		}
	}
	return []step{
		{"migrate status", nil, 0, nil},
		{"migrate up", nil, 0, migrated()},
		{"migrate up", nil, 0, nil},
		{"migrate down", nil, 1, nil}, // Without --yes. TestOperatorLog_Migrations has it with.
		{"partitions list", nil, 1, nil},
		{"partitions init", []string{"--topic", topic, "--partitions", "2", "--replication", "9"}, 1, []string{
			"partitions init begun " + topicArguments + " null null",
			"partitions init ended failed " + topicArguments + " null null",
		}},
		{"partitions init", []string{"--topic", topic, "--partitions", "2"}, 0, []string{
			"partitions init begun " + topicArguments + " null null",
			"partitions init ended succeeded " + topicArguments + ` null {"topic_id":"ID","partitions":2}`,
		}},
		{"partitions init", []string{"--topic", topic, "--partitions", "2"}, 1, nil},
		{"setup", []string{"--topic", topic, "--tenant", "beta"}, 0, []string{
			`tenants create done {"tenant":"beta"} null {"tenant_id":1}`,
			`tenants add-key done {"tenant":"beta"} null {"key":1,"live":true,` + bothScopes + `}`,
		}},
		{"setup", []string{"--topic", topic, "--tenant", "beta"}, 0, nil},
		{"tenants create", []string{"acme"}, 0, []string{
			`tenants create done {"tenant":"acme"} null {"tenant_id":3}`,
			`tenants add-key done {"tenant":"acme"} null {"key":2,"live":true,` + bothScopes + `}`,
		}},
		{"tenants create", []string{"acme"}, 1, nil},
		{"tenants add-key", []string{"acme"}, 0, []string{
			`tenants add-key done {"tenant":"acme"} null {"key":3,"live":true,` + bothScopes + `}`,
		}},
		{"tenants add-key", []string{"nobody"}, 1, nil},
		{"tenants add-certificate", []string{"acme", "URI:spiffe://bank.example/acme"}, 0, []string{
			`tenants add-certificate done {"tenant":"acme"} null {"key":4,"live":true,` + bothScopes + `}`,
		}},
		{"tenants add-certificate", []string{"acme", "URI:spiffe://bank.example/acme"}, 1, nil}, // It is there.
		{"tenants disable", []string{"acme"}, 0, []string{
			`tenants disable done {"tenant":"acme"} {"enabled":true} {"enabled":false}`,
		}},
		{"tenants disable", []string{"acme"}, 0, nil},
		{"tenants enable", []string{"acme"}, 0, []string{
			`tenants enable done {"tenant":"acme"} {"enabled":false} {"enabled":true}`,
		}},
		{"setup", []string{"--topic", topic, "--test-installation"}, 1, nil}, // There are live keys.
		{"setup", []string{"--topic", topic, "--no-test-installation"}, 0, nil},
		{"tenants revoke-key", []string{"acme", "3"}, 0, []string{
			`tenants revoke-key done {"tenant":"acme","key":3} {"key":3,"live":true} {"key":3,"live":false}`,
		}},
		{"tenants revoke-key", []string{"acme", "3"}, 1, nil},
		{"tenants list", nil, 0, nil},
		{"partitions grow", []string{"3"}, 0, []string{
			"partitions grow begun " + grown + ` {"topic_id":"ID","partitions":2} null`,
			"partitions grow ended succeeded " + grown +
				` {"topic_id":"ID","partitions":2} {"topic_id":"ID","partitions":3}`,
		}},
		{"partitions grow", []string{"3"}, 1, nil},
		{"partitions resume", []string{"1", "--resend"}, 1, nil},
		{"partitions halt", []string{"1", "--reason", leaked}, 0, []string{halted}},
		{"partitions halt", []string{"1", "--reason", leaked}, 1, nil},
		{"partitions resume", []string{"1"}, 0, []string{
			`partitions resume done {"partition":1} {"state":"halted","since":"TIME"} {"state":"active"}`,
		}},
		{"partitions resume", []string{"1"}, 1, nil},
		{"partitions halt", []string{"1", "--reason", leaked}, 0, []string{halted}},
		{
			"partitions resume",
			[]string{"1", "--resend", "--dry-run"},
			0,
			resumed(`{"partition":1,"choice":"resend","dry_run":true}`, "null"),
		},
		{
			"partitions resume",
			[]string{"1", "--assume-sent", "--in-doubt", "1"},
			0,
			resumed(`{"partition":1,"choice":"assume-sent","in_doubt":1}`,
				state+`"fenced"`+tail+`,"in_doubt":1}`),
		},
		{"partitions mode", []string{"locked", "0"}, 0, toLocked(0)},
		{"partitions mode", []string{"locked", "0", "1"}, 0, toLocked(1)},
		{"partitions mode", []string{"locked"}, 0, toLocked(2)},
		{"partitions mode", []string{"locked"}, 0, nil},
		{"partitions list", nil, 0, nil},
		{"verify", nil, 1, nil},       // The payment that was assumed to be sent is missing.
		{"doctor", nil, anyCode, nil}, // It depends on the broker.
		{"storage", nil, 0, nil},
		{"roles", nil, 0, nil},
		{"probe", []string{"--listen", "127.0.0.1:1"}, 1, nil},
		{"version", nil, 0, nil},
		{"operator-log list", nil, 0, nil},
		{"operator-log verify", nil, 0, nil},
	}
}

// migrated are the rows of the migrations, from the one that creates the log.
func migrated() (rows []string) {
	files, err := filepath.Glob("../../migrations/*_immutable_records.sql")
	if err != nil || len(files) != 1 {
		panic(fmt.Sprint(files, err))
	}
	first, _ := strconv.Atoi(filepath.Base(files[0])[:3])
	for v := first; v <= int(migrations.Latest()); v++ {
		rows = append(rows, fmt.Sprintf(`migrate up done null {"schema_version":%d} {"schema_version":%d}`, v-1, v))
	}
	return rows
}

// commands returns the names of all commands of a program.
func commands(t *testing.T, grammar any) (names []string) {
	t.Helper()
	parser, err := kong.New(grammar, kong.Vars{"version": ""}, vars())
	if err != nil {
		t.Fatal(err)
	}
	var walk func(node *kong.Node, name string)
	walk = func(node *kong.Node, name string) {
		if node.Leaf() {
			names = append(names, strings.TrimSpace(name))
		}
		for _, child := range node.Children {
			walk(child, name+" "+child.Name)
		}
	}
	walk(parser.Model.Node, "")
	return names
}

// uncovered returns the commands that no step uses and that are no services.
func uncovered(names []string, steps []step) (missing []string) {
	for _, name := range names {
		used := slices.ContainsFunc(steps, func(s step) bool { return s.command == name })
		if !used && !slices.Contains(services, name) {
			missing = append(missing, name)
		}
	}
	return missing
}

var (
	timeForm = regexp.MustCompile(`"\d{4}-\d\d-\d\dT[^"]*"`)
	uuidForm = regexp.MustCompile(`"[0-9a-f]{8}-[0-9a-f-]{27}"`)
)

// summary describes a row without what differs from run to run.
func summary(r store.LoggedEntry) string {
	words := []string{r.Action, string(r.Phase)}
	if r.Result != "" {
		words = append(words, string(r.Result))
	}
	for _, v := range []json.RawMessage{r.Arguments, r.Before, r.After} {
		words = append(words, uuidForm.ReplaceAllString(timeForm.ReplaceAllString(string(v), `"TIME"`), `"ID"`))
	}
	return strings.Join(words, " ")
}

// TestOperatorLog_EveryCommand: each command that changes something writes just its rows, and logs
// the head of each. A command that changes nothing, also because it failed, writes none. A new
// command needs a step. In the end the chain is whole, and holds no name, account number, key or
// password.
func TestOperatorLog_EveryCommand(t *testing.T) {
	t.Parallel()
	url, topic := parts.EmptyPostgres(t), parts.Topic()
	all := steps(topic)
	for _, name := range uncovered(commands(t, &commandLine{}), all) {
		t.Errorf("no step for %q: got none, want the rows that it writes", name)
	}
	var secrets []string
	written := 0
	for i, s := range all {
		if s.command == "partitions grow" && s.code == 1 {
			secrets = append(secrets, createPayment(t, url, secrets[0])...) // From now on a payment waits.
		}
		code, stdout, stderr := runStep(t, s, url)
		if s.code != anyCode && code != s.code {
			t.Fatalf("%d, %s %q: got code %d and %s%s, want %d", i, s.command, s.args, code, stdout, stderr, s.code)
		}
		if key := regexp.MustCompile(`pl_\w+`).FindString(stdout); key != "" {
			secrets = append(secrets, key)
		}
		if s.command == "migrate status" {
			continue // There is no log yet.
		}
		written += checkRows(t, s, url, written, stderr)
	}
	wantSecretsAbsent(t, url, secrets)
}

// checkRows wants the rows after the first n to be those of the step, and the last head to be in
// what the command logged. It returns how many there are.
func checkRows(t *testing.T, s step, url string, n int, stderr string) int {
	t.Helper()
	rows := listed(t, url)[n:]
	got := make([]string, len(rows))
	for i, r := range rows {
		got[i] = summary(r)
		if r.Command != s.command || r.Role == "" || r.OSUser == "" || r.Host == "" || r.Version == "" {
			t.Errorf("%s %q: row %d: got %+v, want who did it, and the command", s.command, s.args, r.Seq, r.Entry)
		}
		if !strings.Contains(stderr, fmt.Sprintf(`"head":"%s"`, r.Head())) {
			t.Errorf("%s %q: row %d: got %q, want the head %s in it", s.command, s.args, r.Seq, stderr, r.Head())
		}
	}
	if !slices.Equal(got, s.want) {
		t.Errorf("%s %q: got the rows\n%s\nwant\n%s", s.command, s.args, strings.Join(got, "\n"),
			strings.Join(s.want, "\n"))
	}
	return len(rows)
}

// runStep runs a command with the settings that it has.
func runStep(t *testing.T, s step, url string) (code int, stdout, stderr string) {
	t.Helper()
	args := append(strings.Fields(s.command), s.args...)
	if !slices.Contains([]string{"probe", "version", "roles"}, s.command) {
		args = append(args, "--database-url", url)
	}
	switch s.command {
	case "setup", "verify", "doctor", "partitions init", "partitions grow", "partitions mode", "partitions resume":
		args = append(args, "--kafka-brokers", parts.Kafka(t))
	}
	return runCommand(t, args...)
}

// listed returns the rows as `operator-log list` prints them.
func listed(t *testing.T, url string) (rows []store.LoggedEntry) {
	t.Helper()
	code, stdout, stderr := runCommand(t, "operator-log", "list", "--json", "--limit", "1000", "--database-url", url)
	for line := range strings.Lines(stdout) {
		var r store.LoggedEntry
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("operator-log list: got %q, %v; want a row", line, err)
		}
		if r.Sum() != r.Hash {
			t.Errorf("operator-log list: row %d: got a text that was not hashed: %s", r.Seq, line)
		}
		rows = append(rows, r)
	}
	if code != 0 {
		t.Fatalf("operator-log list: got code %d and %s, want rows", code, stderr)
	}
	return rows
}

// createPayment stores a payment of the API key's tenant in partition 1 of 3, and returns what the
// log must not hold of it.
func createPayment(t *testing.T, url, key string) (private []string) {
	t.Helper()
	s, err := store.Open(t.Context(), url, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	parsed, err := payment.ParseAPIKey(key)
	if err != nil {
		t.Fatal(err)
	}
	access, err := s.Authenticate(t.Context(), parsed.Hash())
	if err != nil {
		t.Fatal(err)
	}
	for n := 765543322; ; n++ {
		number := strconv.Itoa(n)
		p := newPayment(t, access.Tenant, number)
		if payment.PartitionOf(p.PartitionHash, 3) != 1 {
			continue
		}
		if _, _, err := s.Create(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		return []string{"Yolanda", "Xavier", number, "DE89370400440532013000", "INV-7"}
	}
}

func newPayment(t *testing.T, tenant payment.Tenant, number string) payment.Payment {
	t.Helper()
	key, err := payment.ParseKey("order-1")
	if err != nil {
		t.Fatal(err)
	}
	p, err := payment.New(tenant, key, payment.Content{
		Amount: "25687", Currency: "USD", Reference: new("INV-7"),
		Originator:  payment.PartyContent{ID: "567", Name: "Yolanda Quist"},
		Beneficiary: payment.PartyContent{ID: "123", Name: "Xavier Zork"},
		Sender:      payment.AccountContent{Type: "checking", Number: number},
		Receiver:    payment.AccountContent{Type: "iban", Number: "DE89370400440532013000"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// wantSecretsAbsent searches all columns of the log. Tenants are in it: the control.
func wantSecretsAbsent(t *testing.T, url string, secrets []string) {
	t.Helper()
	conn, err := parts.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	const search = `select count(*) from operator_log l where l::text like '%' || $1 || '%'`
	count := func(text string) (n int) {
		if err := conn.QueryRow(t.Context(), search, text).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, secret := range secrets {
		if n := count(secret); n > 0 {
			t.Errorf("got %q in %d rows, want it in none", secret, n)
		}
	}
	if count("acme") == 0 {
		t.Error("got no row with a tenant: the search finds nothing")
	}
}

// TestOperatorLog_NewCommand: a command without a step is noticed.
func TestOperatorLog_NewCommand(t *testing.T) {
	var grammar struct {
		commandLine
		Added struct {
			New cliCommand `cmd:""`
		} `cmd:""`
	}
	if got := uncovered(commands(t, &grammar), steps("t")); !slices.Equal(got, []string{"added new"}) {
		t.Errorf("got %q, want the new command", got)
	}
}

type cliCommand struct{}

// Run does nothing.
func (cliCommand) Run() error { return nil }
