package cli

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// token is a setting of the tests that is a secret, and has to be given.
type token string

func (s *token) UnmarshalText(text []byte) error {
	*s = token(text)
	return nil
}

func (s *token) Hint() string { return "a token" }

func (s *token) Secret() bool { return *s != "" }

// tokenPath is a setting of the tests that names a file with a token.
type tokenPath string

func (p *tokenPath) UnmarshalText(text []byte) error {
	*p = tokenPath(text)
	if string(text) == "absent" {
		return fmt.Errorf("file %s: does not exist", text)
	}
	return nil
}

func (p *tokenPath) Warning() string {
	if *p == "open" {
		return "file open: all may read it"
	}
	return ""
}

// TokenSettings and EvenSettings are groups that check themselves.
type TokenSettings struct {
	Token     token     `env:"PAYLATCH_CLITEST_TOKEN" help:"One."`
	TokenFile tokenPath `env:"PAYLATCH_CLITEST_TOKEN_FILE" help:"Two."`
}

func (s TokenSettings) Faults() []string {
	if s.Token == "bad" {
		return []string{"the token is bad"}
	}
	return nil
}

type EvenSettings struct {
	Even even `default:"2" help:"Three."`
}

func (s EvenSettings) Faults() []string {
	if s.Even == 4 {
		return []string{"4 is too much"}
	}
	return nil
}

type guardedCommand struct {
	TokenSettings
	EvenSettings
}

func (c *guardedCommand) Run(out Output) error {
	_, err := fmt.Fprintln(out.Stdout, "ran")
	return err
}

func runGuarded(t *testing.T, env map[string]string, args ...string) (code int, text string) {
	t.Helper()
	for _, name := range []string{"PAYLATCH_CLITEST_TOKEN", "PAYLATCH_CLITEST_TOKEN_FILE"} {
		t.Setenv(name, env[name])
	}
	var grammar struct {
		Guarded guardedCommand `cmd:"" help:"Guarded."`
		Other   EvenSettings   `cmd:"" help:"Other."`
	}
	var out bytes.Buffer
	p := Program{Name: "test", Stdout: &out, Stderr: &out}
	code = p.Run(t.Context(), &grammar, append([]string{"guarded"}, args...))
	return code, out.String()
}

// TestRun_Files: the flag --name-file gives what --name needs. Both are a fault that names both,
// whether they come from flags or variables.
func TestRun_Files(t *testing.T) {
	const both = "--token (PAYLATCH_CLITEST_TOKEN) and --token-file (PAYLATCH_CLITEST_TOKEN_FILE): give one of them"
	for i, row := range []struct {
		env  map[string]string
		args []string
		code int
		want string
	}{
		{nil, nil, 2, "--token (PAYLATCH_CLITEST_TOKEN): is required, like a token"},
		{nil, []string{"--token-file=x"}, 0, "ran"},
		{map[string]string{"PAYLATCH_CLITEST_TOKEN_FILE": "x"}, nil, 0, "ran"},
		{map[string]string{"PAYLATCH_CLITEST_TOKEN": "sesame"}, nil, 0, "ran"},
		{nil, []string{"--token=sesame", "--token-file=x"}, 2, both},
		{map[string]string{"PAYLATCH_CLITEST_TOKEN": "sesame"}, []string{"--token-file=x"}, 2, both},
		{map[string]string{"PAYLATCH_CLITEST_TOKEN_FILE": "x"}, []string{"--token=sesame"}, 2, both},
		{nil, []string{"--token-file=absent"}, 2, "(PAYLATCH_CLITEST_TOKEN_FILE): file absent: does not exist"},
	} {
		code, text := runGuarded(t, row.env, row.args...)
		if code != row.code || !strings.Contains(text, row.want) || strings.Contains(text, "sesame") {
			t.Errorf("%d: got %d and %q; want %d and %q, without the secret", i, code, text, row.code, row.want)
		}
	}
}

// TestRun_FaultsOfGroups: all groups of a command are checked, also when two have the method.
func TestRun_FaultsOfGroups(t *testing.T) {
	code, text := runGuarded(t, nil, "--token=bad", "--even=4")
	for _, want := range []string{"the token is bad", "4 is too much"} {
		if code != exitUsage || strings.Count(text, want) != 1 {
			t.Errorf("got %d and %q, want 2 and once %q", code, text, want)
		}
	}
}

// TestRun_Warnings: a secret on the command line and a file that all may read are warned of, and
// the command runs. A secret in a variable is no fault.
func TestRun_Warnings(t *testing.T) {
	const processList = "test: warning: --token (PAYLATCH_CLITEST_TOKEN): holds a secret on the command line"
	const readable = "test: warning: --token-file (PAYLATCH_CLITEST_TOKEN_FILE): file open: all may read it"
	code, text := runGuarded(t, nil, "--token=sesame")
	if code != exitOK || !strings.Contains(text, processList) || strings.Contains(text, "sesame") {
		t.Errorf("got %d and %q, want 0 and %q", code, text, processList)
	}
	code, text = runGuarded(t, nil, "--token-file=open")
	if code != exitOK || !strings.Contains(text, readable) {
		t.Errorf("got %d and %q, want 0 and %q", code, text, readable)
	}
	code, text = runGuarded(t, map[string]string{"PAYLATCH_CLITEST_TOKEN": "sesame"})
	if code != exitOK || strings.Contains(text, "warning") {
		t.Errorf("got %d and %q, want 0 and no warning", code, text)
	}
}
