package brokers

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paylatch/paylatch/internal/secretfile"
)

// endpoint is a token endpoint with TLS. It numbers its tokens.
type endpoint struct {
	*httptest.Server
	requests atomic.Int64
	life     atomic.Int64 // Seconds.
	secret   atomic.Pointer[string]
	// respond, if any, is used instead.
	respond http.HandlerFunc
}

func newEndpoint(t *testing.T) *endpoint {
	t.Helper()
	e := &endpoint{}
	e.life.Store(3600)
	e.setSecret("sesame")
	e.Server = httptest.NewTLSServer(e)
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) setSecret(s string) { e.secret.Store(&s) }

// ServeHTTP implements http.Handler.
func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := e.requests.Add(1)
	if e.respond != nil {
		e.respond(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	client, secret, _ := r.BasicAuth()
	if client != "paylatch" || secret != *e.secret.Load() || r.PostFormValue("scope") != "kafka:write more" {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = fmt.Fprintf(w, `{"error":"invalid_client","error_description":"%s"}`, strings.Repeat("x", 10_000))
		return
	}
	_, _ = fmt.Fprintf(w, `{"access_token":"token-%d","token_type":"Bearer","expires_in":%d}`, n, e.life.Load())
}

// tokens returns those of a client that knows the secret, with its files.
func (e *endpoint) tokens(t *testing.T) (tokens *Tokens, secretPath, caPath string) {
	t.Helper()
	dir := t.TempDir()
	secretPath, caPath = filepath.Join(dir, "secret"), filepath.Join(dir, "ca.pem")
	write(t, secretPath, []byte("sesame\n"))
	write(t, caPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.Certificate().Raw}))
	file, err := secretfile.Open(secretPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	tokens, err = NewTokens(TokenEndpoint{
		URL: e.URL, ClientID: "paylatch", ClientSecret: secretfile.Of("", file), CA: caPath,
		Scopes: []string{"kafka:write", "more"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return tokens, secretPath, caPath
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTokens_Shared: connections at once share one request and its token.
func TestTokens_Shared(t *testing.T) {
	e := newEndpoint(t)
	tokens, _, _ := e.tokens(t)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if got, err := tokens.Token(t.Context()); got != "token-1" || err != nil {
				t.Errorf("got %s, %v; want token-1", got, err)
			}
		})
	}
	all.Wait()
	if got := e.requests.Load(); got != 1 {
		t.Errorf("got %d requests, want 1", got)
	}
	if text := fmt.Sprintf("%v %+v %#v", tokens, tokens, tokens); strings.Contains(text, "token-1") {
		t.Errorf("got %s, want no token", text)
	}
}

// TestTokens_Reuse: a token is given to others for half of its life and a minute at most, an error
// for a second.
func TestTokens_Reuse(t *testing.T) {
	for name, row := range map[string]struct {
		life int64
		want time.Duration
	}{
		"long life":    {3600, tokenReuseMax},
		"short life":   {30, 15 * time.Second},
		"unknown life": {0, 0},
	} {
		e := newEndpoint(t)
		e.life.Store(row.life)
		tokens, _, _ := e.tokens(t)
		before := time.Now()
		if _, err := tokens.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		// The life counts from the request, in whole seconds.
		if got := tokens.until.Sub(before); got < row.want-time.Second || got > row.want+time.Since(before) {
			t.Errorf("%s: got reuse for %s, want %s", name, got, row.want)
		}
		tokens.until = time.Time{} // As if that time had passed.
		if got, err := tokens.Token(t.Context()); got != "token-2" || err != nil {
			t.Errorf("%s: got %s, %v; want token-2", name, got, err)
		}
	}
}

// TestTokens_Refused: the error names the endpoint and its reason, shortened, and not the secret.
// Others get the same error without another request. The secret is read again.
func TestTokens_Refused(t *testing.T) {
	e := newEndpoint(t)
	tokens, secretPath, _ := e.tokens(t)
	e.setSecret("other")
	want := "no token for paylatch from " + e.URL + ": 401 Unauthorized, invalid_client: x"
	for range 3 {
		_, err := tokens.Token(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("got error %v, want the endpoint and its reason", err)
		}
		if n := len(err.Error()); n > 2*reasonBytesMax || strings.Contains(err.Error(), "sesame") {
			t.Errorf("got an error of %d bytes: %v; want a short one without the secret", n, err)
		}
	}
	if got := e.requests.Load(); got > 2 { // In both forms in which endpoints take secrets.
		t.Errorf("got %d requests, want at most 2", got)
	}
	write(t, secretPath, []byte("other"))
	wantToken(t, tokens)
}

// wantToken waits until there is a token. Files are trusted for a second.
func wantToken(t *testing.T, tokens *Tokens) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		_, err := tokens.Token(t.Context())
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got error %v, want a token", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestTokens_Authorities: the endpoint's certificate is checked, against a file that may change.
func TestTokens_Authorities(t *testing.T) {
	e := newEndpoint(t)
	tokens, _, caPath := e.tokens(t)
	right, err := os.ReadFile(caPath)
	if err != nil {
		t.Fatal(err)
	}
	untrusted, err := NewTokens(TokenEndpoint{URL: e.URL, ClientID: "paylatch"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := untrusted.Token(t.Context()); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("got error %v, want an unknown authority", err)
	}
	if got := e.requests.Load(); got != 0 {
		t.Errorf("got %d requests, want none before the certificate is checked", got)
	}
	write(t, caPath, []byte("half a file"))
	wantToken(t, tokens) // The last good content stays in use.
	write(t, caPath, right)
	tokens.until = time.Time{}
	wantToken(t, tokens)
}

// TestTokens_Responses: neither a redirect, nor a page, nor a token that is too long is taken.
func TestTokens_Responses(t *testing.T) {
	var redirected atomic.Bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		redirected.Store(true)
	}))
	defer elsewhere.Close()
	for name, respond := range map[string]http.HandlerFunc{
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		},
		"page":  func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "<html>log in</html>") },
		"empty": func(http.ResponseWriter, *http.Request) {},
		"long": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"access_token":%q}`, strings.Repeat("x", tokenBytesMax+1))
		},
		"unavailable": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, strings.Repeat("sesame", 1000), http.StatusServiceUnavailable)
		},
	} {
		e := newEndpoint(t)
		e.respond = respond
		tokens, _, _ := e.tokens(t)
		got, err := tokens.Token(t.Context())
		if err == nil || len(err.Error()) > 2*reasonBytesMax || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: got %.20q, error %v; want a short error without the response", name, got, err)
		}
	}
	if redirected.Load() {
		t.Error("the redirect was followed")
	}
}

// TestTokens_Silent: an endpoint that does not respond is given up after tokenTimeout.
func TestTokens_Silent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens, err := NewTokens(TokenEndpoint{URL: "http://127.0.0.1/token", ClientID: "paylatch"})
		if err != nil {
			t.Fatal(err)
		}
		tokens.client.Transport = silent{}
		before := time.Now()
		_, err = tokens.Token(t.Context())
		if err == nil || !strings.Contains(err.Error(), "deadline exceeded") {
			t.Errorf("got error %v, want that of the deadline", err)
		}
		if got := time.Since(before); got < tokenTimeout || got > 2*tokenTimeout {
			t.Errorf("got a wait of %s, want %s for each form of the request at most", got, tokenTimeout)
		}
	})
}

// silent is an endpoint that does not respond.
type silent struct{}

// RoundTrip implements http.RoundTripper.
func (silent) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}
