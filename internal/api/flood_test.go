package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paylatch/paylatch/internal/payment"
)

// keylessStore is a fakeStore that cannot authenticate.
type keylessStore struct {
	*fakeStore
	err error
}

func (s *keylessStore) Authenticate(context.Context, payment.APIKeyHash) (payment.Access, error) {
	return payment.Access{}, s.err
}

// TestReport_Flood: whatever clients send, the log grows by a bounded number of lines in each
// interval. The next line has the number of those held back. The metric counts all.
func TestReport_Flood(t *testing.T) {
	t.Parallel()
	const flood = 500
	unauthorized := []string{"Authorization", ""}
	for name, row := range map[string]struct {
		path     string
		headers  []string
		err      error
		code     string
		linesMax int
	}{
		"Unauthorized": {path: "/payments", headers: unauthorized, code: "unauthorized", linesMax: 1},
		"UnknownKey":   {path: "/payments", err: payment.ErrUnauthorized, code: "unauthorized", linesMax: 1},
		"KeysAway":     {path: "/payments", err: errAway, code: "unavailable", linesMax: 1},
		"NoRoute":      {path: "/none", headers: unauthorized, code: "not_found", linesMax: 1},
		"NoProblem":    {path: "/problems/none", headers: unauthorized, code: "not_found", linesMax: 1},
		"Tenant":       {path: "/payments", code: "query_invalid", linesMax: 100},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log logBuffer
				server, memory := newTestServer(t)
				server.logger = log.logger()
				if row.err != nil {
					server.store = &keylessStore{memory, row.err}
				}
				for range flood {
					wantProblem(t, do(t, server, http.MethodGet, row.path, "", row.headers...), row.code)
				}
				if n := strings.Count(log.String(), "\n"); n != row.linesMax {
					t.Errorf("got %d lines, want %d", n, row.linesMax)
				}
				time.Sleep(sampleInterval)
				do(t, server, http.MethodGet, row.path, "", row.headers...)
				lines := strings.Split(strings.TrimSpace(log.String()), "\n")
				want := fmt.Sprintf(`"more":%d`, flood-row.linesMax)
				last := lines[len(lines)-1]
				if len(lines) != row.linesMax+1 || !strings.Contains(last, want) {
					t.Errorf("got %d lines, then %s, want %d and %s", len(lines)-1, last, row.linesMax, want)
				}
				counted := metricWith(t, server, "paylatch_refusals_total", "code", row.code)
				if counted != flood+1 {
					t.Errorf("got %v refusals counted, want %d", counted, flood+1)
				}
			})
		})
	}
}
