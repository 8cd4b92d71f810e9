package app

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/internal/secretfile"
)

// written returns the path of a new file that the owner alone may read.
func written(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// secretIn returns a secret in a file.
func secretIn(t *testing.T, content string) (f secretfile.File) {
	t.Helper()
	if err := f.UnmarshalText([]byte(written(t, content))); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestDatabaseSettings_Faults: a password in the URL, wherever PostgreSQL takes it from there, and
// one in a setting of its own are a fault that names both and shows neither.
func TestDatabaseSettings_Faults(t *testing.T) {
	file := secretIn(t, "sesame2")
	urls := map[string]bool{ // Whether there is a password in it.
		"postgres://u:sesame@db:5432/p": true, "postgres://u@db/p?password=sesame": true,
		"host=db user=u password=sesame dbname=p": true, "postgres://u:sesame@a:1,b:2/p": true,
		"postgres://u@db/p": false, "host=db user=u dbname=p": false, "postgres://u@a:1,b:2/p": false,
	}
	for url, has := range urls {
		for name, s := range map[string]DatabaseSettings{
			"PAYLATCH_DATABASE_PASSWORD)":      {DatabaseURL: DatabaseURL(url), DatabasePassword: "sesame2"},
			"PAYLATCH_DATABASE_PASSWORD_FILE)": {DatabaseURL: DatabaseURL(url), DatabasePasswordFile: file},
		} {
			faults := fmt.Sprint(s.Faults())
			if got := strings.Contains(faults, name) && strings.Contains(faults, "PAYLATCH_DATABASE_URL)"); got != has {
				t.Errorf("%s with %s: got %s, want a fault: %t", url, name, faults, has)
			}
			if strings.Contains(faults, "sesame") {
				t.Errorf("%s: the fault shows the password: %s", url, faults)
			}
		}
		s := DatabaseSettings{DatabaseURL: DatabaseURL(url)}
		if len(s.Faults()) > 0 || s.DatabaseURL.Secret() != has {
			t.Errorf("%s: got %q and a secret: %t; want none and %t", url, s.Faults(), s.DatabaseURL.Secret(), has)
		}
	}
}

// TestDatabaseURLFile: the file must hold a URL, and nothing of it is shown.
func TestDatabaseURLFile(t *testing.T) {
	var f DatabaseURLFile
	if err := f.UnmarshalText([]byte(written(t, "postgres://u:sesame@db/p\n"))); err != nil {
		t.Fatal(err)
	}
	s := DatabaseSettings{DatabaseURLFile: f, DatabasePassword: "sesame"}
	if got := string(s.URL()); got != "postgres://u:sesame@db/p" {
		t.Errorf("got %s, want the URL of the file", got)
	}
	if faults := fmt.Sprint(s.Faults()); !strings.Contains(faults, "PAYLATCH_DATABASE_URL_FILE") {
		t.Errorf("got %s, want a fault that names the file", faults)
	}
	shown, err := json.Marshal(s)
	if all := fmt.Sprintf("%v %+v %#v %s", s, s, s, shown); err != nil || strings.Contains(all, "sesame") {
		t.Errorf("got %s, %v; want no password", all, err)
	}
	err = f.UnmarshalText([]byte(written(t, "postgres://u:12/sesame@db/p")))
	text := fmt.Sprint(err)
	if !strings.Contains(text, "percent-encode the password") || strings.Contains(text, "sesame") {
		t.Errorf("got %s, want what to do, without the password", text)
	}
}

// TestDatabaseURL_TLSFile: a TLS file that cannot be used is named.
func TestDatabaseURL_TLSFile(t *testing.T) {
	broken := written(t, "no certificate")
	for url, want := range map[string]string{
		"postgres://u:sesame@db/p?sslmode=verify-full&sslrootcert=/absent/ca.pem": "/absent/ca.pem",
		"postgres://u:sesame@db/p?sslmode=verify-full&sslrootcert=" + broken:      "unable to add CA",
		"postgres://u:sesame@db/p?sslmode=verify-full&sslcert=/absent/cert.pem":   "sslkey",
		"postgres://u:sesame@db/p?sslmode=never":                                  "sslmode is invalid",
	} {
		text := fmt.Sprint(new(DatabaseURL).UnmarshalText([]byte(url)))
		if !strings.Contains(text, want) || strings.Contains(text, "sesame") {
			t.Errorf("%s: got %s, want %q, without the password", url, text, want)
		}
	}
}

// TestDatabaseURL_Warning: a connection that leaves the machine and is not verified is warned of,
// without the password.
func TestDatabaseURL_Warning(t *testing.T) {
	for url, want := range map[string]string{
		"postgres://u:sesame@db/p":                             "connections to db are not verified (sslmode=prefer)",
		"postgres://u:sesame@a,b/p?sslmode=disable":            "connections to a and b are not verified (sslmode=d",
		"postgres://u:sesame@db/p?sslrootcert=system":          "",
		"postgres://u:sesame@127.0.0.1/p?sslmode=disable":      "",
		"host=/var/run/postgresql user=u password=sesame":      "",
		"postgres://u:sesame@localhost:5432/p?sslmode=disable": "",
	} {
		got := DatabaseURL(url).Warning()
		if !strings.HasPrefix(got, want) || (got == "") != (want == "") || strings.Contains(got, "sesame") {
			t.Errorf("%s: got %q, want %q", url, got, want)
		}
		var f DatabaseURLFile
		if err := f.UnmarshalText([]byte(written(t, url))); err != nil || f.Warning() != got {
			t.Errorf("%s: got %q, %v of a file; want %q", url, f.Warning(), err, got)
		}
	}
}
