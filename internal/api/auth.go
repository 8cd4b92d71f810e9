package api

import (
	"strings"

	"github.com/paylatch/paylatch/internal/payment"
)

// authenticated lets a handler run only for a live API key, and only within the limits of its tenant; the key alone says which tenant asks.
func (s *Server) authenticated(h handler) handler {
	return func(x *exchange) error {
		scheme, credential, _ := strings.Cut(x.r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") { // RFC 9110 section 11.1: the scheme is case-insensitive.
			return refuse("unauthorized", "the request has no Authorization: Bearer")
		}
		key, err := payment.ParseAPIKey(strings.TrimSpace(credential))
		if err != nil { // Mistyped or cut off: the checksum tells without asking the store.
			return refuse("unauthorized", "the credential is no API key, or is mistyped")
		}
		if x.tenant, err = s.store.Authenticate(x.Context(), key.Hash()); err != nil { // Asks seldom, and bounds that itself.
			return err
		}
		if x.share, err = s.limiter.admit(x.Header(), x.tenant.ID); err != nil {
			return err
		}
		defer x.share.inFlight.leave() // Also when the handler panics.
		return h(x)
	}
}
