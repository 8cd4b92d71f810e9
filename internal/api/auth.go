package api

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/paylatch/paylatch/internal/payment"
)

// authenticated runs h only if the request has a live API key with the scope and is within the
// limits of its tenant. Only the key identifies the tenant. A request without the scope counts
// against the limits, too.
func (s *Server) authenticated(scope payment.Scope, h handler) handler {
	return func(x *exchange) error {
		access, err := s.identify(x.Context(), x)
		if err != nil {
			return err
		}
		x.tenant = access.Tenant
		x.usage, err = s.limiter.admit(x.Header(), x.tenant.ID)
		if err != nil {
			return err
		}
		// Deferred, so that a panic of h releases it too.
		defer x.usage.inFlight.release()
		if !access.Scopes.Has(scope) {
			return &refusalError{
				code: "insufficient_scope", scope: scope,
				detail: "the API key does not have the scope " + string(scope),
			}
		}
		return h(x)
	}
}

// apiKey parses the header Authorization, which a request must have once. Programs differ in which
// of two they use, so one of them could check another key than this one.
func apiKey(values []string) (payment.APIKey, error) {
	if len(values) > 1 {
		return payment.APIKey{}, refuse("unauthorized", "the request has %d headers Authorization", len(values))
	}
	var scheme, credential string
	if len(values) == 1 {
		scheme, credential, _ = strings.Cut(values[0], " ")
	}
	// The scheme is case-insensitive (RFC 9110 section 11.1).
	if !strings.EqualFold(scheme, "Bearer") {
		return payment.APIKey{}, refuse("unauthorized", "the request has no Authorization: Bearer")
	}
	// The checksum of the key finds a mistyped or truncated one without a query.
	key, err := payment.ParseAPIKey(strings.TrimSpace(credential))
	if err != nil {
		return payment.APIKey{}, refuse("unauthorized", "the credential is no API key, or is mistyped")
	}
	return key, nil
}

// recheck returns payment.ErrUnauthorized if the key of a request that was authenticated is no
// longer live. It is for requests that last: the key may be revoked while a body arrives, or during
// a wait. It usually returns at once, since the store has the key in its cache.
func (s *Server) recheck(ctx context.Context, x *exchange) error {
	_, err := s.identify(ctx, x)
	return err
}

// isRevoked reports whether err, of recheck, means that the key is no longer live. If the database
// is away, that is not known.
func isRevoked(err error) bool { return errors.Is(err, payment.ErrUnauthorized) }

// errTestKey is a payment.ErrUnauthorized for a key that would be live elsewhere.
var errTestKey = fmt.Errorf("%w: a test key, and not a test installation", payment.ErrUnauthorized)

// access returns what a key gives access to. There is no timeout here: the store answers from its
// cache, and bounds its own queries.
func (s *Server) access(ctx context.Context, key payment.APIKey) (payment.Access, error) {
	access, err := s.store.Authenticate(ctx, key.Hash())
	if err == nil && key.IsTest() && !access.TestInstallation {
		return payment.Access{}, errTestKey
	}
	return access, err
}
