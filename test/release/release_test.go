// Package release_test checks that a release can be built again from its sources, byte by byte.
package release_test

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const root = "../.."

// sources are the files and directories that a build of the programs reads.
var sources = []string{"Makefile", "go.mod", "go.sum", "client", "cmd", "internal", "migrations"}

// copyOfSources copies the sources to a new directory, which is no clone.
func copyOfSources(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range sources {
		from, to := filepath.Join(root, name), filepath.Join(dir, name)
		info, err := os.Stat(from)
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			if err := os.CopyFS(to, os.DirFS(from)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// build builds paylatch for linux/amd64 as `make release` does, and returns the path of the binary
// and its bytes. It adds environment to that of the test.
func build(t *testing.T, dir, version string, environment ...string) (path string, binary []byte) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "make", "-C", dir, "binaries",
		"PROGRAMS=paylatch", "PLATFORMS=linux/amd64", "VERSION="+version, "COMMIT=0123456789abcdef")
	cmd.Env = append(os.Environ(), environment...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	path = filepath.Join(dir, "dist", "paylatch-linux-amd64")
	binary, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, binary
}

// TestReproducible builds the same version twice: from two directories, the second time with
// settings of the caller that change what Go builds. Both binaries must have the same bytes. The
// control is another version.
func TestReproducible(t *testing.T) {
	const version = "v1.2.3-release-test"
	first, second := copyOfSources(t), copyOfSources(t)
	path, want := build(t, first, version)
	_, got := build(t, second, version, "CGO_ENABLED=1", "GOAMD64=v3", "GOFLAGS=-tags=netcgo", "SOURCE_DATE_EPOCH=1")
	if !bytes.Equal(got, want) {
		t.Errorf("got other bytes from the second directory (%d and %d bytes), want the same", len(got), len(want))
	}
	if _, control := build(t, second, "v1.2.4-release-test"); bytes.Equal(control, want) {
		t.Error("got the same bytes of another version: this test compares nothing")
	}
	if !bytes.Contains(want, []byte(version)) {
		t.Errorf("got a binary without its version, want %s in it", version)
	}
	if bytes.Contains(want, []byte(first)) {
		t.Errorf("got the directory of the build in the binary, want no trace of %s", first)
	}
	checkStatic(t, path)
}

// checkStatic checks that the binary is one for linux/amd64 that needs no loader and no library.
func checkStatic(t *testing.T, path string) {
	t.Helper()
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if file.Machine != elf.EM_X86_64 {
		t.Errorf("got a binary for %s, want %s", file.Machine, elf.EM_X86_64)
	}
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP || segment.Type == elf.PT_DYNAMIC {
			t.Errorf("got a segment %s, want a static binary", segment.Type)
		}
	}
}
