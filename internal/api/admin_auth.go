package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
	"time"
)

// authenticated passes on the requests that may use the admin listener. Without tokens and
// certificates these are all: the listener is on loopback then.
func (a Admin) authenticated(next http.Handler) http.Handler {
	if a.Tokens == nil && !a.Certificates {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.Certificates && hasCertificate(r) || a.Tokens != nil && hasToken(r, a.Tokens()) {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="paylatch admin"`)
		http.Error(w, "this listener needs a bearer token or a client certificate", http.StatusUnauthorized)
	})
}

// hasCertificate reports whether the client has shown a certificate that is valid now. TLS has
// verified it at the beginning of the connection, which may last.
func hasCertificate(r *http.Request) bool {
	return r.TLS != nil && len(r.TLS.VerifiedChains) > 0 && time.Now().Before(r.TLS.PeerCertificates[0].NotAfter)
}

// hasToken reports whether the request has one of the tokens. The time that this takes does not
// depend on what the tokens have in common.
func hasToken(r *http.Request, tokens []string) bool {
	scheme, credential, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	given, found := sha256.Sum256([]byte(credential)), 0
	for _, token := range tokens {
		one := sha256.Sum256([]byte(token))
		found |= subtle.ConstantTimeCompare(given[:], one[:])
	}
	return found == 1
}
