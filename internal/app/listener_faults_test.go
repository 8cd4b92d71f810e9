package app

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/test/parts"
)

// TestProcessSettings_Admin: beyond loopback the admin listener must authenticate, or the program
// does not start.
func TestProcessSettings_Admin(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, cert, key := filepath.Join(dir, "ca"), filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	authority := parts.NewAuthority(t, "ca")
	authority.Write(t, ca)
	authority.IssueTo(t, cert, key, parts.Subject{})
	token := AdminAccessSettings{AdminToken: "0123456789abcdef"}
	certificates := AdminAccessSettings{AdminTLSCert: cert, AdminTLSKey: key, AdminTLSClientCA: ca}
	for _, row := range []struct {
		listen Address
		access AdminAccessSettings
		want   string
	}{
		{"127.0.0.1:8081", AdminAccessSettings{}, ""},
		{"[::1]:8081", AdminAccessSettings{}, ""},
		{"localhost:8081", AdminAccessSettings{}, ""},
		{"0.0.0.0:8081", AdminAccessSettings{}, "can be reached from other machines"},
		{":8081", AdminAccessSettings{}, "can be reached from other machines"},
		{"[::]:8081", AdminAccessSettings{}, "can be reached from other machines"},
		{"10.0.0.1:8081", AdminAccessSettings{}, "can be reached from other machines"},
		{"db-1:8081", AdminAccessSettings{AdminTLSCert: cert, AdminTLSKey: key}, "can be reached from other machines"},
		{"0.0.0.0:8081", token, ""},
		{"0.0.0.0:8081", certificates, ""},
		{"127.0.0.1:8081", AdminAccessSettings{AdminTLSClientCA: ca}, "needs --admin-tls-cert"},
		{"127.0.0.1:8081", AdminAccessSettings{AdminTLSCert: cert}, "needs its key"},
		{"127.0.0.1:8081", AdminAccessSettings{AdminTLSCert: cert, AdminTLSKey: ca}, ca},
	} {
		faults := fmt.Sprint(ProcessSettings{AdminListen: row.listen, AdminAccessSettings: row.access}.Faults())
		if (faults == "[]") != (row.want == "") || !strings.Contains(faults, row.want) {
			t.Errorf("%s: got %s, want %q", row.listen, faults, row.want)
		}
	}
	clear := ProcessSettings{AdminListen: "0.0.0.0:8081", AdminAccessSettings: token}
	if got := clear.clearToken(); !strings.Contains(got, "can read its token") {
		t.Errorf("got %q, want a warning of a token in clear", got)
	}
	if got := fmt.Sprintf("%v %+v %#v", clear, clear, clear); strings.Contains(got, "0123456789abcdef") {
		t.Errorf("the token is shown: %s", got)
	}
}

// TestAdminToken: a token that can be guessed is refused, without being shown.
func TestAdminToken(t *testing.T) {
	t.Parallel()
	for text, right := range map[string]bool{
		"0123456789abcdef": true, "0123456789abcdef fedcba9876543210": true, "0123456789abcde": false,
		"0123456789abcdef sesame": false, "0123456789abcdeé": false,
	} {
		err := new(AdminToken).UnmarshalText([]byte(text))
		fileErr := new(AdminTokenFile).UnmarshalText([]byte(written(t, text)))
		if (err == nil) != right || (fileErr == nil) != right || strings.Contains(fmt.Sprint(err, fileErr), "sesame") {
			t.Errorf("%q: got %v and %v, want it accepted: %t", text, err, fileErr, right)
		}
	}
}
