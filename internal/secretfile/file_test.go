package secretfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// write writes a file that the owner alone may read.
func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestOpen: one newline at the end is no part of the secret, and everything else is.
func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	for content, want := range map[string]string{
		"sesame": "sesame", "sesame\n": "sesame", "sesame\r\n": "sesame", "sesame\n\n": "sesame\n",
		" se same ":                   " se same ",
		strings.Repeat("x", bytesMax): strings.Repeat("x", bytesMax),
	} {
		write(t, path, content)
		f, err := Open(path, nil)
		if got := f.Current(); err != nil || got != want {
			t.Errorf("%.20q: got %.20q, %v; want %.20q", content, got, err, want)
		}
	}
}

// TestOpen_Unusable: the error names the path and what is wrong, and never the content.
func TestOpen_Unusable(t *testing.T) {
	dir := t.TempDir()
	path := func(name, content string) string {
		write(t, filepath.Join(dir, name), content)
		return filepath.Join(dir, name)
	}
	refuse := func(string) error { return errors.New("is refused") }
	for _, row := range []struct {
		path, want string
		check      func(string) error
	}{
		{filepath.Join(dir, "absent"), "does not exist", nil},
		{dir, "is a directory", nil},
		{path("empty", ""), "is empty", nil},
		{path("newline", " \n"), "is empty", nil},
		{path("large", strings.Repeat("sesame", bytesMax)), "is larger than 65536 bytes", nil},
		{os.DevNull, "is no regular file", nil},
		{path("wrong", "sesame"), "is refused", refuse},
	} {
		_, err := Open(row.path, row.check)
		text := fmt.Sprint(err)
		if !strings.Contains(text, row.path) || !strings.Contains(text, row.want) || strings.Contains(text, "sesame") {
			t.Errorf("%s: got %v, want the path and %q, without the content", row.path, err, row.want)
		}
	}
}

// clock is moved by hand.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

// watching opens a file whose reads follow a clock that the test moves.
func watching(t *testing.T, path string) (f File, c *clock, log *bytes.Buffer) {
	t.Helper()
	f, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, log = &clock{f.watched.readAt}, &bytes.Buffer{}
	f.watched.now = c.now
	f.LogTo(slog.New(slog.NewTextHandler(log, nil)))
	return f, c, log
}

// TestFile_Changes: a change is seen after a second, whether the file is written in place, replaced
// by a rename, or reached over a symbolic link that leads elsewhere, as Kubernetes does it; also
// when size and time of change are those of before.
func TestFile_Changes(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"a", "b"} {
		if err := os.Mkdir(in(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, in("a/secret"), "one")
	write(t, in("b/secret"), "two")
	link := func(to string) {
		t.Helper()
		if err := errors.Join(os.Symlink(to, in("new")), os.Rename(in("new"), in("data"))); err != nil {
			t.Fatal(err)
		}
	}
	link("a")
	f, clock, log := watching(t, in("data/secret"))
	old := time.Now().Add(-time.Hour)
	for i, row := range []struct {
		change func()
		want   string
	}{
		{func() {}, "one"},
		{func() { link("b") }, "two"},
		{func() { write(t, in("b/secret"), "six") }, "six"},
		{func() { write(t, in("b/new"), "ten"); _ = os.Rename(in("b/new"), in("b/secret")) }, "ten"},
		{func() { link("a") }, "one"},
	} {
		before := f.Current()
		row.change()
		for _, path := range []string{in("a/secret"), in("b/secret")} {
			if err := os.Chtimes(path, old, old); err != nil {
				t.Fatal(err)
			}
		}
		clock.at = clock.at.Add(readEvery - 1)
		if got := f.Current(); got != before {
			t.Errorf("%d: got %q within a second, want %q: it was read too often", i, got, before)
		}
		clock.at = clock.at.Add(1)
		if got := f.Current(); got != row.want {
			t.Errorf("%d: got %q, want %q", i, got, row.want)
		}
	}
	if log.Len() > 0 {
		t.Errorf("got a log of good files: %s", log)
	}
}

// TestFile_KeepsLastGood: a file that is away, empty or too large leaves the last good content in
// use. Each cause is logged once, without the content.
func TestFile_KeepsLastGood(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	write(t, path, "sesame")
	f, clock, log := watching(t, path)
	for i, row := range []struct {
		change func()
		want   string
		logged int // Lines so far.
	}{
		{func() { _ = os.Remove(path) }, "sesame", 1},
		{func() {}, "sesame", 1},
		{func() { write(t, path, "") }, "sesame", 2},
		{func() {}, "sesame", 2},
		{func() { write(t, path, "sesame 2") }, "sesame 2", 3}, // In use again.
		{func() { write(t, path, strings.Repeat("sesame", bytesMax)) }, "sesame 2", 4},
		{func() { write(t, path, "sesame 3") }, "sesame 3", 5},
	} {
		row.change()
		clock.at = clock.at.Add(readEvery)
		got, logged := f.Current(), strings.Count(log.String(), "\n")
		if got != row.want || logged != row.logged {
			t.Errorf("%d: got %.20q and %d lines, want %q and %d: %s", i, got, logged, row.want, row.logged, log)
		}
	}
	if strings.Contains(log.String(), "sesame") {
		t.Errorf("the log has the content: %s", log)
	}
}

// TestFile_ClockSetBack: a clock that is set back does not stop the reads.
func TestFile_ClockSetBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	write(t, path, "one")
	f, clock, _ := watching(t, path)
	write(t, path, "two")
	clock.at = clock.at.Add(-time.Hour)
	if got := f.Current(); got != "two" {
		t.Errorf("got %q, want two", got)
	}
}

// TestFile_Warning: a file that all users may read is warned of.
func TestFile_Warning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	write(t, path, "sesame")
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o644: true, 0o604: true} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path, nil)
		if err != nil || (f.Warning() != "") != want {
			t.Errorf("%o: got %q, %v; want a warning: %t", mode, f.Warning(), err, want)
		}
	}
	if got := (File{}).Warning(); got != "" {
		t.Errorf("got %q for no file", got)
	}
}

// TestValue_Hidden: no way of printing shows a secret, also in a field that fmt cannot reach by
// methods.
func TestValue_Hidden(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	write(t, path, "sesame")
	f, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []Value{Of("sesame", File{}), Of("", f)} {
		if got := v.Current(); got != "sesame" {
			t.Fatalf("got %q, want sesame: the rest would show nothing", got)
		}
		type holder struct{ hidden Value }
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "value", v, "text", Text("sesame"), "holder", holder{v})
		encoded, err := json.Marshal([]any{v, Text("sesame"), f})
		all := fmt.Sprintf("%v %+v %#v %s %q %v %+v %#v %v %#v", v, v, v, v, v, holder{v}, holder{v}, holder{v}, f, f) +
			fmt.Sprintf("%v %s %#v %q", Text("sesame"), Text("sesame"), Text("sesame"), Text("sesame")) +
			log.String() + string(encoded)
		if err != nil || strings.Contains(all, "sesame") || !strings.Contains(all, redacted) {
			t.Errorf("got %s, %v; want %s and no secret", all, err, redacted)
		}
	}
	if (Value{}).IsGiven() || (Value{}).Current() != "" || (Value{}).String() != "" {
		t.Error("the zero Value is given")
	}
}
