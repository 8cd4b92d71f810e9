package embedded

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// TestNetwork_Downloaded: a download reports how far it is, to its end; a small file does not.
func TestNetwork_Downloaded(t *testing.T) {
	const large = 3 << 20
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := "checksum"
		if r.URL.Path == "/large" {
			body = strings.Repeat("x", large)
			w.Header().Set("Content-Length", "3145728")
		}
		_, _ = io.WriteString(w, body)
	}))
	defer server.Close()
	var reported []int64
	client := &http.Client{Transport: &network{ctx: t.Context(), downloaded: func(done, total int64) {
		reported = append(reported, done)
		if total != large {
			t.Errorf("got %d bytes in all, want %d", total, large)
		}
	}}}
	for path, reports := range map[string]bool{"/small": false, "/large": true} {
		reported = nil
		response, err := client.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			t.Error(err)
		}
		if err := response.Body.Close(); err != nil {
			t.Error(err)
		}
		if !reports && len(reported) > 0 {
			t.Errorf("%s: got %d, want no report", path, reported)
		}
		if reports && (len(reported) == 0 || !slices.IsSorted(reported) || reported[len(reported)-1] != large) {
			t.Errorf("%s: got %d, want rising numbers up to %d", path, reported, large)
		}
	}
}

// TestPostgres_OnDownload: events of a download come before the answer, which is not changed by
// them.
func TestPostgres_OnDownload(t *testing.T) {
	const owner = `{"Download":{"Done":1,"Total":9}}{"Download":{"Done":9,"Total":9}}{"Port":5432}`
	var reported []int64
	p := &Postgres{
		answers:    json.NewDecoder(strings.NewReader(owner)),
		onDownload: func(done, _ int64) { reported = append(reported, done) },
	}
	if a, err := p.read(); err != nil || a.Port != 5432 {
		t.Errorf("got %+v, %v; want the port", a, err)
	}
	if !slices.Equal(reported, []int64{1, 9}) {
		t.Errorf("got %d, want the two events", reported)
	}
	p.answers = json.NewDecoder(strings.NewReader(owner))
	p.onDownload = nil
	if a, err := p.read(); err != nil || a.Port != 5432 {
		t.Errorf("without a listener: got %+v, %v; want the port", a, err)
	}
}
