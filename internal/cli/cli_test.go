package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// even is a setting of the tests.
type even int

func (e *even) UnmarshalText(text []byte) error {
	if _, err := fmt.Sscan(string(text), (*int)(e)); err != nil || *e%2 != 0 {
		return fmt.Errorf("%q is not even", text)
	}
	return nil
}

// must is a setting of the tests that has to be given.
type must string

func (m *must) UnmarshalText(text []byte) error {
	*m = must(text)
	return nil
}

func (m *must) Hint() string { return "something" }

type codedError struct{ error }

func (codedError) ExitCode() int { return 3 }

type workCommand struct {
	A    even `env:"PAYLATCH_CLITEST_A" default:"2" help:"One."`
	B    even `env:"PAYLATCH_CLITEST_B" default:"2" help:"Two."`
	Must must `env:"PAYLATCH_CLITEST_MUST" help:"Three."`
	Fail bool `help:"Four."`
}

func (c *workCommand) Run(_ context.Context, out Output) error {
	if c.Fail {
		return codedError{errors.New("of a code of its own")}
	}
	_, err := fmt.Fprintln(out.Stdout, "ran", c.A, c.B, c.Must)
	return err
}

func (c *workCommand) Faults() []string {
	if c.A == c.B && c.A == 4 {
		return []string{"A and B must differ"}
	}
	return nil
}

func runWork(t *testing.T, env map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	for name, value := range env {
		t.Setenv(name, value)
	}
	var grammar struct {
		Work  workCommand `cmd:"" help:"Work."`
		Other struct {
			C even `env:"PAYLATCH_CLITEST_C" default:"2" help:"Five."`
		} `cmd:"" help:"Other."`
		Version VersionCommand `cmd:"" help:"Version."`
	}
	var out, errs bytes.Buffer
	p := Program{Name: "test", Environ: os.Environ(), Stdout: &out, Stderr: &errs}
	code = p.Run(t.Context(), &grammar, args)
	return code, out.String(), errs.String()
}

// TestRun_AllFaultsAtOnce: every fault of the chosen command is reported, and none of another one.
func TestRun_AllFaultsAtOnce(t *testing.T) {
	env := map[string]string{"PAYLATCH_CLITEST_A": "1", "PAYLATCH_CLITEST_C": "1"}
	code, _, stderr := runWork(t, env, "work", "--b=3")
	want := []string{
		`--a (PAYLATCH_CLITEST_A): "1" is not even`, `--b (PAYLATCH_CLITEST_B): "3" is not even`,
		`--must (PAYLATCH_CLITEST_MUST): is required, like something`,
	}
	for _, fault := range want {
		if !strings.Contains(stderr, fault) {
			t.Errorf("got %q, want %q in it", stderr, fault)
		}
	}
	if code != exitUsage || strings.Contains(stderr, "--c") {
		t.Errorf("got code %d and %q, want 2 and no fault of --c", code, stderr)
	}
}

// TestRun_LastValueCounts: a flag overrides a wrong variable, and an empty variable is not given.
func TestRun_LastValueCounts(t *testing.T) {
	env := map[string]string{"PAYLATCH_CLITEST_A": "1", "PAYLATCH_CLITEST_MUST": ""}
	if code, stdout, stderr := runWork(t, env, "work", "--a=6", "--must=x"); code != exitOK || stdout != "ran 6 2 x\n" {
		t.Errorf("got code %d, %q, %q; want 0 and the values of the flags", code, stdout, stderr)
	}
	code, stdout, _ := runWork(t, env, "work", "--a=1", "--a=6", "--must=x")
	if code != exitOK || stdout != "ran 6 2 x\n" {
		t.Errorf("got code %d and %q, want 0 and the last flag", code, stdout)
	}
	code, _, stderr := runWork(t, env, "work", "--a=6")
	if code != exitUsage || !strings.Contains(stderr, "is required") {
		t.Errorf("got code %d and %q, want 2 and a missing setting", code, stderr)
	}
}

func TestRun_ExitCodes(t *testing.T) {
	for name, row := range map[string]struct {
		args []string
		code int
	}{
		"ok":                     {[]string{"work", "--must=x"}, exitOK},
		"of the command":         {[]string{"work", "--must=x", "--fail"}, 3},
		"no such flag":           {[]string{"work", "--no-such-flag"}, exitUsage},
		"no such command":        {[]string{"play"}, exitUsage},
		"checked by the command": {[]string{"work", "--must=x", "--a=4", "--b=4"}, exitUsage},
		"help":                   {[]string{"--help"}, exitOK},
		"no arguments":           {nil, exitOK},
		"version":                {[]string{"version"}, exitOK},
	} {
		if code, stdout, stderr := runWork(t, nil, row.args...); code != row.code {
			t.Errorf("%s: got %d, want %d: %s%s", name, code, row.code, stdout, stderr)
		}
	}
}

// TestRun_UnknownVariable: a mistyped variable is named, with the setting it resembles, and the
// command runs.
func TestRun_UnknownVariable(t *testing.T) {
	code, _, stderr := runWork(t, map[string]string{"PAYLATCH_CLITEST_MSUT": "x"}, "work", "--must=x")
	const want = "PAYLATCH_CLITEST_MSUT is set and is no setting; did you mean PAYLATCH_CLITEST_MUST?"
	if code != exitOK || !strings.Contains(stderr, want) {
		t.Errorf("got code %d and %q, want 0 and %q", code, stderr, want)
	}
}

func TestUnknownVariables(t *testing.T) {
	settings := []string{"PAYLATCH_TENANT_RATE", "PAYLATCH_LISTEN", "PAYLATCH_PARTITIONS", "PAYLATCH_TOPIC"}
	for variable, want := range map[string]string{
		"PAYLATCH_TENANT_RTE=5":                          "PAYLATCH_TENANT_RATE",
		"PAYLATCH_LISTENS=:1":                            "PAYLATCH_LISTEN",
		"PAYLATCH_PORT=8080":                             "-", // Not of a service link's form, and like no setting.
		"PAYLATCH_SOMETHING_ELSE=1":                      "-",
		"PAYLATCH_TENANT_RATE=5":                         "",
		"PAYLATCH_SERVER=http://x":                       "", // payclient's.
		"PAYLATCH_TEST_PARTS=docker":                     "",
		"PAYLATCH_PORT=tcp://10.0.0.1:8080":              "",
		"PAYLATCH_SERVICE_HOST=10.0.0.1":                 "",
		"PAYLATCH_SERVICE_PORT=8080":                     "",
		"PAYLATCH_SERVICE_PORT_HTTP=8080":                "",
		"PAYLATCH_PORT_8080_TCP=tcp://10.0.0.1:8080":     "",
		"PAYLATCH_PORT_8080_TCP_PROTO=tcp":               "",
		"PAYLATCH_PORT_8080_TCP_PORT=8080":               "",
		"PAYLATCH_PORT_8080_TCP_ADDR=10.0.0.1":           "",
		"PAYLATCH_API_PORT=udp://10.0.0.1:8080":          "",
		"PAYLATCH_API_SERVICE_HOST=10.0.0.1":             "",
		"HOME=/root":                                     "",
		"PAYLATCHX=1":                                    "",
		"PAYLATCH_ADMIN_PORT_9000_SCTP=sctp://10.0.0.1:": "",
	} {
		got := ""
		if unknown := unknownVariables([]string{variable}, settings); len(unknown) == 1 {
			got = unknown[0].Nearest
			if got == "" {
				got = "-"
			}
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", variable, got, want)
		}
	}
}

// TestOtherVariables: the list names all variables of the programs in cmd, or a program would warn
// of another one's. No setting looks like a service link.
func TestOtherVariables(t *testing.T) {
	sources, err := filepath.Glob("../../cmd/pay*/*.go")
	if err != nil || len(sources) == 0 {
		t.Fatalf("no sources: %v", err)
	}
	name := regexp.MustCompile(`"(PAYLATCH_[A-Z_]+)"`)
	found := 0
	for _, path := range sources {
		if strings.HasSuffix(path, "_test.go") || strings.Contains(path, "cmd/paylatch/") {
			continue
		}
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range name.FindAllStringSubmatch(string(source), -1) {
			found++
			if serviceLink.MatchString(match[1] + "=tcp://10.0.0.1:80") {
				t.Errorf("%s in %s has the form of a service link", match[1], path)
			}
			if !slices.Contains(OtherVariables, match[1]) && !ofPaylatch(t, match[1]) {
				t.Errorf("%s in %s is in no list", match[1], path)
			}
		}
	}
	if found < len(OtherVariables)/2 {
		t.Errorf("found %d variables in %q: the pattern is wrong", found, sources)
	}
}

// ofPaylatch reports whether the variable is a setting of paylatch as well.
func ofPaylatch(t *testing.T, name string) bool {
	t.Helper()
	source, err := os.ReadFile("../app/config.go")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(source), `"`+name+`"`)
}
