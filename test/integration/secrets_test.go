package integration

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/test/parts"
)

// outputs are what programs have printed and served, by where.
type outputs map[string]string

// with returns where a secret is.
func (o outputs) with(secret string) (places []string) {
	for place, text := range o {
		if strings.Contains(text, secret) {
			places = append(places, place)
		}
	}
	return places
}

// secretly is an installation whose secrets are all in files, and are like nothing else.
type secretly struct {
	*installation
	// secrets are by what they are for.
	secrets map[string]string
	outputs outputs
}

// newSecretly sets up an installation on a broker that demands SCRAM.
func newSecretly(t *testing.T) secretly {
	t.Helper()
	broker := parts.SecureKafka(t)
	settings := broker.Settings(t, "SCRAM-SHA-512")
	i := installIn(t, parts.EmptyPostgres(t), "", nil, parts.Environ(settings))
	api, sender, operator := i.groups(t)
	u, err := url.Parse(i.as(t, api, sender, operator)["PAYLATCH_DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	s := secretly{i, map[string]string{
		"database password": uuid.NewString(), "admin token": uuid.NewString(),
		"Kafka password": parts.SecureSecret, "API key": i.key,
	}, outputs{}}
	login := u.User.Username()
	i.execute(t, fmt.Sprintf("alter role %s password '%s'", login, s.secrets["database password"]))
	u.User = url.User(login)
	dir := t.TempDir()
	maps.Copy(i.env, map[string]string{
		"PAYLATCH_DATABASE_URL":           u.String(),
		"PAYLATCH_DATABASE_PASSWORD_FILE": parts.WriteFile(t, dir, "password", []byte(s.secrets["database password"])),
		"PAYLATCH_ADMIN_TOKEN_FILE":       parts.WriteFile(t, dir, "token", []byte(s.secrets["admin token"])),
	})
	return s
}

// run runs a command, whatever its exit code, and keeps what it prints.
func (s secretly) run(t *testing.T, more map[string]string, args ...string) {
	t.Helper()
	env := maps.Clone(s.env)
	maps.Copy(env, more)
	out, err := command(t, env, args...).CombinedOutput()
	place := strings.Join(args, " ")
	s.outputs[place] = string(out)
	if len(out) == 0 {
		t.Errorf("paylatch %s printed nothing (%v): nothing was tested", place, err)
	}
}

// get requests a path, and keeps the response with its headers.
func (s secretly) get(t *testing.T, base, path, token string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	s.outputs[path] = fmt.Sprintln(response.Status, response.Header, string(body))
}

// dump starts a service, has it serve, and makes it print all its goroutines and end, as a crash
// does. It keeps the log at the level debug, and what the service served.
func (s secretly) dump(t *testing.T) {
	t.Helper()
	cmd := command(t, s.env, "serve")
	p := &process{done: make(chan struct{})}
	up := make(chan struct{}, 2)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		p.follow(stderr, &p.stderr, func() { up <- struct{}{} })
	}()
	select {
	case <-up:
	case <-time.After(startTimeout):
		_ = cmd.Process.Kill()
		t.Fatalf("the service is not ready\n%s", p.stderr.String())
	}
	p.cmd = cmd
	s.serve(t, p)
	if err := cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	<-p.done
	_ = cmd.Wait() // It ends by the signal.
	s.outputs["log and crash dump"] = p.stderr.String()
	for _, want := range []string{"SIGQUIT", "goroutine ", `"level":"DEBUG"`} {
		if !strings.Contains(p.stderr.String(), want) {
			t.Errorf("got a dump without %q: nothing was tested", want)
		}
	}
}

// serve makes requests, right and wrong ones.
func (s secretly) serve(t *testing.T, p *process) {
	t.Helper()
	created, err := newClient(t, s.key, p.api).Create(t.Context(), "secretly", sample("1"))
	if err != nil {
		t.Fatal(err)
	}
	unknown, err := payment.NewAPIKey("live")
	if err != nil {
		t.Fatal(err)
	}
	s.secrets["unknown API key"] = unknown.Reveal()
	s.get(t, p.api, "/payments/"+created.ID, s.key)
	s.get(t, p.api, "/payments/none", unknown.Reveal())
	for _, path := range []string{"/metrics", "/readyz", "/debug/pprof/goroutine?debug=2", "/debug/pprof/cmdline"} {
		s.get(t, p.admin, path, s.secrets["admin token"])
	}
	s.get(t, p.admin, "/livez", s.secrets["database password"]) // A wrong token.
}

// TestSecrets_Nowhere searches all that the programs print, log and serve for each secret: the log
// at the level debug, a crash dump, metrics, profiles, the doctor, help texts and errors. As the
// control, the key that an operator is shown once is found.
func TestSecrets_Nowhere(t *testing.T) {
	t.Parallel()
	s := newSecretly(t)
	s.dump(t)
	for _, args := range [][]string{
		{"doctor"},
		{"doctor", "--json"},
		{"verify"},
		{"partitions", "list"},
		{"tenants", "list"},
		{"operator-log", "list"},
		{"serve", "--help"},
	} {
		s.run(t, nil, args...)
	}
	s.run(t, map[string]string{
		"PAYLATCH_DATABASE_PASSWORD": s.secrets["database password"], "PAYLATCH_ADMIN_TOKEN": s.secrets["admin token"],
		"PAYLATCH_KAFKA_SASL_PASSWORD": s.secrets["Kafka password"],
	}, "sender") // Each is given twice.
	s.run(t, map[string]string{
		"PAYLATCH_DATABASE_URL": "postgres://paylatch:" + s.secrets["database password"] + "#@127.0.0.1/x",
	}, "storage")
	for what, secret := range s.secrets {
		if places := s.outputs.with(secret); len(places) > 0 {
			t.Errorf("got the %s in %q, want it nowhere", what, places)
		}
	}
	var shown bytes.Buffer
	cmd := command(t, s.env, "tenants", "add-key", "acme")
	cmd.Stdout = &shown
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	s.outputs["tenants add-key"] = shown.String()
	if places := s.outputs.with(lastWord(shown.String())); len(places) != 1 {
		t.Errorf("control: got a new key in %q, want it in the output that shows it", places)
	}
}
