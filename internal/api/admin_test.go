package api

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// adminGet makes a request to the admin listener under a name.
func adminGet(t *testing.T, host, target string) *httptest.ResponseRecorder {
	t.Helper()
	server, _ := newTestServer(t)
	admin := Admin{
		Metrics: server.metrics.registerer.(*prometheus.Registry), Health: server.AdminHealth(),
		Hosts: []string{"paylatch-admin.payments.svc"},
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, http.NoBody)
	r.Host = host
	w := httptest.NewRecorder()
	admin.handler().ServeHTTP(w, r)
	return w
}

// TestAdmin_Host: the listener responds under addresses, localhost and the names that it has. A web
// page has another name, whatever address that resolves to.
func TestAdmin_Host(t *testing.T) {
	t.Parallel()
	for host, ok := range map[string]bool{
		"127.0.0.1:8081": true, "10.1.2.3:8081": true, "[::1]:8081": true, "[::1]": true, "::1": true,
		"127.0.0.1": true,
		"localhost": true, "LocalHost:8081": true, "localhost.:8081": true, "": true,
		"paylatch-admin.payments.svc:8081": true, "Paylatch-Admin.payments.svc": true,
		"evil.example": false, "evil.example:8081": false, "127.0.0.1.nip.io:8081": false,
		"localhost.evil.example": false,
		"payments.svc":           false, "xlocalhost:8081": false,
	} {
		for _, target := range []string{"/metrics", "/livez", "/debug/pprof/", "/none"} {
			w := adminGet(t, host, target)
			if refused := w.Code == http.StatusMisdirectedRequest; refused == ok {
				t.Errorf("%s of host %q: got %d, want it served: %t", target, host, w.Code, ok)
			}
			if !ok && !strings.Contains(w.Body.String(), "--admin-hosts") {
				t.Errorf("got %q, want it to say what to do", w.Body)
			}
			if w.Header().Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s of host %q: got no nosniff", target, host)
			}
		}
	}
}

// TestAdmin_ProfileSeconds: no request profiles the process for longer than profileSecondsMax.
func TestAdmin_ProfileSeconds(t *testing.T) {
	t.Parallel()
	for _, profile := range []string{"profile", "trace", "heap", "mutex"} {
		path := "/debug/pprof/" + profile
		for _, seconds := range []string{"61", "500", "-1", "0", "1e9", "NaN", "Inf", "x"} {
			w := adminGet(t, "localhost", path+"?seconds="+seconds)
			if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "at most 60") {
				t.Errorf("%s?seconds=%s: got %d %q, want 400 with the bound", path, seconds, w.Code, w.Body)
			}
		}
	}
	w := adminGet(t, "localhost", "/debug/pprof/trace?seconds=0.01")
	if w.Code != http.StatusOK || w.Body.Len() == 0 {
		t.Errorf("a short trace: got %d and %d bytes, want 200 and a trace", w.Code, w.Body.Len())
	}
}
