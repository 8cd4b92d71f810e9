package clienttest

import (
	"net/http"
	"net/http/httptest"
	"time"
)

// Fault responds to a create instead of the service. It may call create to have the service do its
// work, with a response that the fault can drop.
type Fault func(w http.ResponseWriter, r *http.Request, create func(http.ResponseWriter))

// Unavailable responds with 503 and creates nothing.
func Unavailable(w http.ResponseWriter, _ *http.Request, _ func(http.ResponseWriter)) {
	w.Header().Set("Retry-After", "0")
	problem(w, http.StatusServiceUnavailable, map[string]any{
		"code": "unavailable", "detail": "the database cannot be reached",
	})
}

// LoseRequest closes the connection and creates nothing.
func LoseRequest(http.ResponseWriter, *http.Request, func(http.ResponseWriter)) {
	panic(http.ErrAbortHandler)
}

// LoseResponse creates the payment and closes the connection without a response.
func LoseResponse(_ http.ResponseWriter, _ *http.Request, create func(http.ResponseWriter)) {
	create(httptest.NewRecorder())
	panic(http.ErrAbortHandler)
}

// CutResponse creates the payment and closes the connection within the response.
func CutResponse(w http.ResponseWriter, _ *http.Request, create func(http.ResponseWriter)) {
	create(httptest.NewRecorder())
	w.Header().Set("Content-Length", "500")
	w.WriteHeader(http.StatusAccepted)
	_, _ = w.Write([]byte(`{"id":"0198`))
	panic(http.ErrAbortHandler)
}

// Stall creates the payment and does not respond until the client closes the connection.
func Stall(_ http.ResponseWriter, r *http.Request, create func(http.ResponseWriter)) {
	create(httptest.NewRecorder())
	select {
	case <-r.Context().Done():
	case <-time.After(stallTimeout):
	}
	panic(http.ErrAbortHandler)
}

// stallTimeout ends a stalled response to a client without a time-out: the test fails instead of
// hanging.
const stallTimeout = 20 * time.Second

// Respond gives the same response each time and creates nothing.
func Respond(status int, contentType, body string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ func(http.ResponseWriter)) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body)) // A client may stop reading.
	}
}

// Repeat returns the same fault n times.
func Repeat(n int, f Fault) []Fault {
	faults := make([]Fault, n)
	for i := range faults {
		faults[i] = f
	}
	return faults
}
