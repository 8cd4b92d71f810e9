package main

import (
	"archive/zip"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// database is where govulncheck reads vulnerabilities.
type database struct {
	url string // Empty for the default of govulncheck.
	// modules is how many modules have an entry, and modified is the time of the last change. Both
	// are zero for a database that is not on this machine.
	modules  int
	modified time.Time
}

// String describes the database for a reader of the result.
func (d database) String() string {
	switch {
	case d.url == "":
		return "https://vuln.go.dev (VULN_DB names another)"
	case d.modules == 0:
		return d.url
	}
	return fmt.Sprintf("%s, %d modules, modified %s", d.url, d.modules, d.modified.Format(time.DateOnly))
}

// open returns the database that VULN_DB names. It extracts an archive into temporary.
func open(named, temporary string) (database, error) {
	if named == "" || strings.Contains(named, "://") {
		return database{url: named}, nil
	}
	dir, err := filepath.Abs(named)
	if err != nil {
		return database{}, err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return database{}, err
	}
	if !info.IsDir() {
		if err := extract(dir, temporary); err != nil {
			return database{}, err
		}
		dir = temporary
	}
	d := database{url: (&url.URL{Scheme: "file", Path: filepath.ToSlash(dir)}).String()}
	return d, d.read(os.DirFS(dir))
}

func extract(archive, to string) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	return errors.Join(os.CopyFS(to, z), z.Close())
}

var errEmpty = errors.New("it has no entry")

// read reads the indexes. Without them, or if they are empty, govulncheck would find nothing and
// succeed.
func (d *database) read(dir fs.FS) error {
	var modules []struct{}
	var last struct{ Modified time.Time }
	err := errors.Join(readJSON(dir, "index/modules.json", &modules), readJSON(dir, "index/db.json", &last))
	if err != nil {
		return err
	}
	d.modules, d.modified = len(modules), last.Modified
	if d.modules == 0 {
		return errEmpty
	}
	return nil
}

func readJSON(dir fs.FS, name string, into any) error {
	text, err := fs.ReadFile(dir, name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
