package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestVersion builds a clone that seems to belong to another user, as in a container that mounts
// it. Git then refuses to describe it, and `go build` alone fails. The program must know its
// commit.
func TestVersion(t *testing.T) {
	const root = "../.."
	otherOwner := append(os.Environ(), "GIT_TEST_ASSUME_DIFFERENT_OWNER=1")
	commit := "unknown" // In a directory that is no clone.
	if out, err := exec.CommandContext(t.Context(), "git", "-C", root, "rev-parse", "HEAD").Output(); err == nil {
		commit = strings.TrimSpace(string(out))
		plain := exec.CommandContext(t.Context(), "git", "-C", root, "rev-parse", "HEAD")
		plain.Env = otherOwner
		if plain.Run() == nil {
			t.Fatal("git accepts a clone of another user: this test shows nothing")
		}
	}
	bin := t.TempDir() + "/"
	build := exec.CommandContext(t.Context(), "make", "-C", root, "build", "BIN="+bin)
	build.Env = otherOwner
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, program := range []string{"paylatch", "paylatch-dev", "payclient"} {
		out, err := exec.CommandContext(t.Context(), filepath.Join(bin, program), "version").Output()
		if want := "(commit " + commit + ", go"; err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s version: got %q, %v; want %q in it", program, out, err, want)
		}
	}
}
