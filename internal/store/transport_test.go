package store_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/test/parts"
)

// TestTransportOf: the mode is the one in effect, whatever form the URL has. Only verify-full
// protects a connection that leaves the machine.
func TestTransportOf(t *testing.T) {
	t.Parallel()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	parts.NewAuthority(t, "ca").Write(t, ca)
	for url, want := range map[string]store.Transport{
		"postgres://u@db/p":                                       {"prefer", []string{"db"}},
		"postgres://u@db/p?sslmode=disable":                       {"disable", []string{"db"}},
		"postgres://u@db/p?sslmode=allow":                         {"allow", []string{"db"}},
		"postgres://u@db/p?sslmode=require":                       {"require", []string{"db"}},
		"postgres://u@db/p?sslmode=require&sslrootcert=" + ca:     {"verify-ca", []string{"db"}},
		"postgres://u@db/p?sslmode=verify-ca&sslrootcert=" + ca:   {"verify-ca", []string{"db"}},
		"postgres://u@db/p?sslmode=verify-full&sslrootcert=" + ca: {"verify-full", nil},
		"postgres://u@db/p?sslrootcert=system":                    {"verify-full", nil},
		"host=db user=u sslmode=require dbname=p":                 {"require", []string{"db"}},
		"postgres://u@a,b,127.0.0.1/p?sslmode=require":            {"require", []string{"a", "b"}},
		"postgres://u@a,a:5433/p?sslmode=prefer":                  {"prefer", []string{"a"}},
		"postgres://u@127.0.0.2/p":                                {"prefer", nil},
		"postgres://u@localhost/p?sslmode=disable":                {"disable", nil},
		"postgres://u@[::1]/p?sslmode=disable":                    {"disable", nil},
		"host=/var/run/postgresql user=u dbname=p":                {"disable", nil},
		"host=/run,db user=u dbname=p sslmode=verify-full":        {"verify-full", nil},
	} {
		got, err := store.TransportOf(url)
		if err != nil || got.SSLMode != want.SSLMode || !slices.Equal(got.Unverified, want.Unverified) {
			t.Errorf("%s: got %+v, %v; want %+v", url, got, err, want)
		}
	}
}
