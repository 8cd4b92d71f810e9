package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/paylatch/paylatch/internal/payment"
)

// live handles GET /livez: the process responds. It checks nothing else, because a restart does not
// help when the database is away.
func live(x *exchange) error {
	x.Header()["Cache-Control"] = noStore
	x.writeJSON(http.StatusOK, contentTypeJSON, health{"live"})
	return nil
}

// ready handles GET /readyz of clients. It responds with the result of the last checks. It does not
// name halted partitions: they are none of a client's business, and it needs no API key.
func (s *Server) ready(x *exchange) error {
	return s.readyWith(x, func([]int32) readyBody { return readyBody{health: health{"ready"}} })
}

// readyForAdmin handles GET /readyz of the admin listener. A halted partition is reported but does
// not make the replica unready: its payments are still accepted and kept.
func (s *Server) readyForAdmin(x *exchange) error {
	return s.readyWith(x, func(halted []int32) readyBody { return readyBody{health{"ready"}, halted} })
}

func (s *Server) readyWith(x *exchange, body func(halted []int32) readyBody) error {
	s.readiness.awaitFirst(x.Context())
	halted, err := s.readiness.state()
	if err != nil {
		return err
	}
	x.Header()["Cache-Control"] = noStore
	x.writeJSON(http.StatusOK, contentTypeJSON, body(halted))
	return nil
}

// AdminHealth returns the handler of /livez and /readyz for the admin listener.
func (s *Server) AdminHealth() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /livez", s.instrument("/livez", live))
	mux.Handle("GET "+readyPath, s.instrument(readyPath, s.readyForAdmin))
	return mux
}

type health struct {
	Status string `json:"status"`
}

type readyBody struct {
	health
	HaltedPartitions []int32 `json:"halted_partitions,omitempty"`
}

const (
	// readyInterval is the time from the start of one check to the start of the next. Each check
	// costs the database one commit.
	readyInterval = time.Second
	// readyGracePeriod is how long a replica stays ready after its last successful check. It covers
	// short faults, such as a connection that is reset. If a balancer removed all replicas because
	// of one, the fault would become an outage.
	readyGracePeriod = 5 * time.Second
)

// unreadyReason says why a replica is not ready. The set is part of the contract.
type unreadyReason string

const (
	unreadyDraining unreadyReason = "draining"
	unreadyDatabase unreadyReason = "database_unavailable"
	unreadySchema   unreadyReason = "schema_missing"
	unreadyTopic    unreadyReason = "topic_missing"
	unreadyInternal unreadyReason = "internal"
)

// unreadyDetails describes each reason.
var unreadyDetails = map[unreadyReason]string{
	unreadyDraining: "this replica is about to stop; requests that reach it are still served",
	unreadyDatabase: "the database takes no payments now",
	unreadySchema:   "the database has no schema, or one that is older than this program",
	unreadyTopic:    "the topic is not set up",
	unreadyInternal: "the check fails by a fault of this program",
}

// unreadyError is returned while the replica is not ready.
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

// readiness checks periodically whether payments can be taken. All requests share the result of one
// loop, so the cost does not depend on the number of balancers. It is safe for concurrent use.
type readiness struct {
	check  func(context.Context) (halted []int32, err error)
	now    func() time.Time
	logger *slog.Logger
	// first is closed after the first check.
	first chan struct{}

	mu       sync.Mutex
	draining bool
	// succeeded is when the last successful check ended. It is zero if there was none.
	succeeded time.Time
	// halted is the result of the last successful check.
	halted []int32
	// err is the error of the last check. It is nil before the first one.
	err error
}

func newReadiness(check func(context.Context) ([]int32, error), logger *slog.Logger) *readiness {
	return &readiness{check: check, now: time.Now, logger: logger, first: make(chan struct{})}
}

// run checks every readyInterval until ctx ends. A check that takes longer delays the next one.
func (r *readiness) run(ctx context.Context) {
	ticker := time.NewTicker(readyInterval)
	defer ticker.Stop()
	r.checkOnce(ctx)
	close(r.first)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			r.checkOnce(ctx)
		}
	}
}

// checkOnce runs one check, within workTimeout. It ignores the result if ctx has ended:
// the server stops, which says nothing about the database.
func (r *readiness) checkOnce(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	halted, err := r.check(limited)
	if ctx.Err() != nil {
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
	r.err = err
	if err == nil {
		r.succeeded, r.halted = r.now(), halted
	}
}

// awaitFirst waits for the first check, at most readyInterval. Without it a replica would be
// reported as unready only because the request came early.
func (r *readiness) awaitFirst(ctx context.Context) {
	select {
	case <-r.first:
		return
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, readyInterval)
	defer cancel()
	select {
	case <-r.first:
	case <-ctx.Done():
	}
}

// state returns the halted partitions, or an unreadyError. The replica is ready from the first
// successful check until none has succeeded for readyGracePeriod.
func (r *readiness) state() (halted []int32, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.draining:
		return nil, &unreadyError{unreadyDraining}
	case r.now().Sub(r.succeeded) < readyGracePeriod:
		return r.halted, nil
	}
	return nil, &unreadyError{unreadyReasonOf(r.err)}
}

// drain makes the replica unready permanently.
func (r *readiness) drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
}

// gauge returns the state as the value of a metric.
func (r *readiness) gauge() float64 {
	if _, err := r.state(); err != nil {
		return 0
	}
	return 1
}
