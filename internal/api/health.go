package api

import (
	_ "embed"
	"net/http"

	"github.com/paylatch/paylatch/internal/payment"
)

// live answers GET /livez: the process answers. It asks nothing else: a database that is away is no reason to restart us.
func live(x *exchange) error {
	x.answerJSON(http.StatusOK, "application/json", health{"live"})
	return nil
}

// ready answers GET /readyz: payments can be taken, by what the database says now. A server that is about to stop is not ready.
func (s *Server) ready(x *exchange) error {
	if s.closed.Load() {
		return payment.ErrUnavailable
	}
	ctx, cancel := x.workContext()
	defer cancel()
	if err := s.store.Ready(ctx); err != nil {
		return err
	}
	x.answerJSON(http.StatusOK, "application/json", health{"ready"})
	return nil
}

type health struct {
	Status string `json:"status"`
}

// OpenAPI is the contract, as it is served.
//
//go:embed openapi.json
var OpenAPI []byte

// openAPI answers GET /openapi.json.
func openAPI(x *exchange) error {
	x.Header().Set("Content-Type", "application/json")
	_, err := x.Write(OpenAPI)
	return err
}
