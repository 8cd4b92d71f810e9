package main

import (
	"archive/zip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// archive writes the files of a directory into a zip file, and returns its path.
func archive(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vulndb.zip")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := zip.NewWriter(f)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// directory makes a database with these files.
func directory(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "index"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestOpen(t *testing.T) {
	absolute, err := filepath.Abs("control")
	if err != nil {
		t.Fatal(err)
	}
	temporary := t.TempDir()
	for named, want := range map[string]database{
		"":                         {},
		"https://vuln.example/db":  {url: "https://vuln.example/db"},
		"file://" + absolute:       {url: "file://" + absolute},
		"control":                  {url: "file://" + absolute, modules: 1},
		absolute:                   {url: "file://" + absolute, modules: 1},
		archive(t, "control"):      {url: "file://" + temporary, modules: 1},
		directory(t, minimal("b")): {modules: 1},
	} {
		got, err := open(named, temporary)
		if want.url == "" && named != "" {
			want.url = "file://" + named
		}
		if err != nil || got.url != want.url || got.modules != want.modules {
			t.Errorf("%q: got %+v, %v; want %+v", named, got, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(temporary, "ID", controlID+".json")); err != nil {
		t.Errorf("got %v from the archive, want its entry", err)
	}
}

func minimal(module string) map[string]string {
	return map[string]string{
		"index/modules.json": `[{"path":"` + module + `"}]`, "index/db.json": `{"modified":"2026-01-01T00:00:00Z"}`,
	}
}

// TestOpen_Refuses: with each of these, govulncheck would find nothing or report what is no cause.
func TestOpen_Refuses(t *testing.T) {
	text := filepath.Join(t.TempDir(), "vulndb.zip")
	if err := os.WriteFile(text, []byte("not an archive"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := minimal("a")
	empty["index/modules.json"] = "[]"
	wrong := minimal("a")
	wrong["index/modules.json"] = "{"
	for named, want := range map[string]string{
		filepath.Join(t.TempDir(), "none"): "no such file",
		text:                               "not a valid zip file",
		t.TempDir():                        "index/modules.json",
		directory(t, empty):                errEmpty.Error(),
		directory(t, wrong):                "index/modules.json: ",
	} {
		if _, err := open(named, t.TempDir()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q in it", named, err, want)
		}
	}
}
