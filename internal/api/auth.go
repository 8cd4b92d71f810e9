package api

import (
	"strings"

	"github.com/paylatch/paylatch/internal/payment"
)

// authenticated runs h only if the request has a valid API key and is within the limits of its
// tenant. Only the key identifies the tenant.
func (s *Server) authenticated(h handler) handler {
	return func(x *exchange) error {
		scheme, credential, _ := strings.Cut(x.r.Header.Get("Authorization"), " ")
		// The scheme is case-insensitive (RFC 9110 section 11.1).
		if !strings.EqualFold(scheme, "Bearer") {
			return refuse("unauthorized", "the request has no Authorization: Bearer")
		}
		// The checksum of the key finds a mistyped or truncated one without a query.
		key, err := payment.ParseAPIKey(strings.TrimSpace(credential))
		if err != nil {
			return refuse("unauthorized", "the credential is no API key, or is mistyped")
		}
		// No timeout here: the store answers from its cache, and bounds its own queries.
		x.tenant, err = s.store.Authenticate(x.Context(), key.Hash())
		if err != nil {
			return err
		}
		x.usage, err = s.limiter.admit(x.Header(), x.tenant.ID)
		if err != nil {
			return err
		}
		// Deferred, so that a panic of h releases it too.
		defer x.usage.inFlight.release()
		return h(x)
	}
}
