package clienttest

import (
	"net/http"
	"net/http/httptest"
	"time"
)

// Unavailable answers 503 and takes nothing.
func Unavailable(w http.ResponseWriter, _ *http.Request, _ func(http.ResponseWriter)) {
	w.Header().Set("Retry-After", "0")
	problem(w, http.StatusServiceUnavailable, map[string]any{"code": "unavailable", "detail": "the database is away"})
}

// DropBefore closes the connection and takes nothing.
func DropBefore(http.ResponseWriter, *http.Request, func(http.ResponseWriter)) {
	panic(http.ErrAbortHandler)
}

// DropAfter takes the payment, and closes the connection in place of the answer.
func DropAfter(_ http.ResponseWriter, _ *http.Request, take func(http.ResponseWriter)) {
	take(httptest.NewRecorder())
	panic(http.ErrAbortHandler)
}

// CutShort takes the payment, and breaks off in the middle of the answer.
func CutShort(w http.ResponseWriter, _ *http.Request, take func(http.ResponseWriter)) {
	take(httptest.NewRecorder())
	w.Header().Set("Content-Length", "500")
	w.WriteHeader(http.StatusAccepted)
	_, _ = w.Write([]byte(`{"id":"0198`)) // the rest never comes, as promised
	panic(http.ErrAbortHandler)
}

// Stall takes the payment and says nothing until the client gives up.
func Stall(_ http.ResponseWriter, r *http.Request, take func(http.ResponseWriter)) {
	take(httptest.NewRecorder())
	select {
	case <-r.Context().Done():
	case <-time.After(stallMax):
	}
	panic(http.ErrAbortHandler)
}

// Answer gives this answer and takes nothing.
func Answer(status int, contentType, body string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ func(http.ResponseWriter)) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body)) // a client that reads no further is what some tests are about
	}
}

// Each repeats a fault n times.
func Each(n int, f Fault) []Fault {
	faults := make([]Fault, n)
	for i := range faults {
		faults[i] = f
	}
	return faults
}
