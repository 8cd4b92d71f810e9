package api

import (
	"context"
	_ "embed"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/paylatch/paylatch/internal/payment"
)

// live answers GET /livez: the process answers. It asks nothing else: a database that is away is no reason to restart us.
func live(x *exchange) error {
	x.answerJSON(http.StatusOK, contentTypeJSON, health{"live"})
	return nil
}

// ready answers GET /readyz by what the checks have found. Payments of a halted partition are taken
// and kept. So such a partition is named, but is no reason not to be ready.
func (s *Server) ready(x *exchange) error {
	s.readiness.awaitFirst(x.Context())
	halted, err := s.readiness.state()
	if err != nil {
		return err
	}
	x.answerJSON(http.StatusOK, contentTypeJSON, readyBody{health{"ready"}, halted})
	return nil
}

type health struct {
	Status string `json:"status"`
}

type readyBody struct {
	health
	HaltedPartitions []int32 `json:"halted_partitions,omitempty"`
}

const (
	// readyEvery is the time from the start of one check to the start of the next. A check costs
	// the database a commit.
	readyEvery = time.Second
	// readyGrace is how long a replica stays ready after its last successful check. It outlasts
	// what goes away by itself, such as a connection that is reset: a balancer that took out all
	// replicas for that would make it an outage.
	readyGrace = 5 * time.Second
)

// unreadyReason is why a replica is not ready. The set is part of the contract.
type unreadyReason string

const (
	unreadyDraining unreadyReason = "draining"
	unreadyDatabase unreadyReason = "database_unavailable"
	unreadySchema   unreadyReason = "schema_missing"
	unreadyTopic    unreadyReason = "topic_missing"
	unreadyInternal unreadyReason = "internal"
)

// unreadyDetails are the reasons in words.
var unreadyDetails = map[unreadyReason]string{
	unreadyDraining: "this replica is about to stop; requests that reach it are still served",
	unreadyDatabase: "the database takes no payments now",
	unreadySchema:   "the database has no schema, or one that is older than this program",
	unreadyTopic:    "the topic is not set up",
	unreadyInternal: "the check fails by a fault of this program",
}

// unreadyError says that the replica is not ready.
type unreadyError struct{ reason unreadyReason }

func (e *unreadyError) Error() string { return "not ready: " + unreadyDetails[e.reason] }

func unreadyReasonOf(err error) unreadyReason {
	switch {
	case errors.Is(err, payment.ErrNoSchema):
		return unreadySchema
	case errors.Is(err, payment.ErrNoTopic):
		return unreadyTopic
	case err == nil, errors.Is(err, payment.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return unreadyDatabase
	}
	return unreadyInternal
}

// readiness is whether payments can be taken. One loop checks it for all who ask, so that the cost
// does not depend on the number of balancers.
type readiness struct {
	check  func(context.Context) (halted []int32, err error)
	now    func() time.Time
	logger *slog.Logger
	first  chan struct{} // Closed after the first check.

	mu        sync.Mutex
	draining  bool
	succeeded time.Time // When the last successful check ended; zero, long ago, if none was.
	halted    []int32   // As that check found.
	err       error     // Of the last check; nil before the first one.
}

func newReadiness(check func(context.Context) ([]int32, error), logger *slog.Logger) *readiness {
	return &readiness{check: check, now: time.Now, logger: logger, first: make(chan struct{})}
}

// run checks every readyEvery until ctx ends. A check that takes longer delays the next one.
func (r *readiness) run(ctx context.Context) {
	ticker := time.NewTicker(readyEvery)
	defer ticker.Stop()
	r.once(ctx)
	close(r.first)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			r.once(ctx)
		}
	}
}

// once makes one check, within workTimeout.
func (r *readiness) once(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	halted, err := r.check(limited)
	if ctx.Err() != nil { // The server stops, which says nothing about the database.
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil && (r.err != nil || r.succeeded.IsZero()):
		r.logger.Info("readiness check succeeded")
	case err != nil && (r.err == nil || unreadyReasonOf(r.err) != unreadyReasonOf(err)):
		r.logger.Warn("readiness check failed", "reason", unreadyReasonOf(err), "error", err)
	}
	if r.err = err; err == nil {
		r.succeeded, r.halted = r.now(), halted
	}
}

// awaitFirst waits for the first check, at most readyEvery, so that a replica is not called unready
// because it was asked early.
func (r *readiness) awaitFirst(ctx context.Context) {
	select {
	case <-r.first:
		return
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, readyEvery)
	defer cancel()
	select {
	case <-r.first:
	case <-ctx.Done():
	}
}

// state returns the halted partitions, or an unreadyError. It is ready from the first successful
// check on, until none has succeeded for readyGrace.
func (r *readiness) state() (halted []int32, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.draining:
		return nil, &unreadyError{unreadyDraining}
	case r.now().Sub(r.succeeded) < readyGrace:
		return r.halted, nil
	}
	return nil, &unreadyError{unreadyReasonOf(r.err)}
}

// drain makes the replica unready for good.
func (r *readiness) drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
}

// value is the state as a metric.
func (r *readiness) value() float64 {
	if _, err := r.state(); err != nil {
		return 0
	}
	return 1
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
