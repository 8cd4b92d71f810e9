package api

import (
	"context"
	_ "embed"
	"net/http"

	"github.com/paylatch/paylatch/internal/payment"
)

// live answers GET /livez: the process answers. It asks nothing else: a database that is away is no reason to restart us.
func live(x *exchange) error {
	x.answerJSON(http.StatusOK, contentTypeJSON, health{"live"})
	return nil
}

// ready answers GET /readyz: payments can be taken, by what the database says now. Those of a halted partition are taken and kept, so it is named but no reason not
// to be ready. A server that is about to stop is not ready.
func (s *Server) ready(x *exchange) error {
	if s.closed.Load() {
		return payment.ErrUnavailable
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.Context()), workTimeout) // A question that is cancelled half-way costs a database connection.
	defer cancel()
	halted, err := s.store.Ready(ctx)
	if err != nil {
		return err
	}
	x.answerJSON(http.StatusOK, contentTypeJSON, readiness{health{"ready"}, halted})
	return nil
}

type health struct {
	Status string `json:"status"`
}

type readiness struct {
	health
	HaltedPartitions []int32 `json:"halted_partitions,omitempty"`
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
