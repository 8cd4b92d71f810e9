package loadtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/client/clienttest"
)

func TestLoad_Count(t *testing.T) {
	service := clienttest.New()
	c := newTestClient(t, nil, service.Serve(t).URL)
	r, err := Run(t.Context(), []*client.Client{c}, Config{Workers: 4, Count: 50, Reads: 2})
	if err != nil {
		t.Fatal(err)
	}
	if r.Writes.Done != 50 || r.Reads.Done != 100 || service.Payments() != 50 || r.Retries != 0 || r.Interrupted {
		t.Errorf("%d payments, report %+v", service.Payments(), r)
	}
	if r.Writes.Answers["202"] != 50 || r.Reads.Answers["200"] != 100 || r.Writes.Latency.Count != 50 || r.Reads.Latency.Count != 100 {
		t.Errorf("report %+v", r)
	}
	for _, l := range []Latency{r.Writes.Latency, r.Reads.Latency} {
		if l.P50 <= 0 || l.P50 > l.P90 || l.P90 > l.P95 || l.P95 > l.P99 || l.P99 > l.Max {
			t.Errorf("latency %+v", l)
		}
	}
	var out bytes.Buffer
	if err := r.Write(&out); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", out.String())
	for _, want := range []string{"writes", "reads", "p99 ms", "answers to writes: 202 × 50", "answers to reads: 200 × 100", "4 workers"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	var back Report
	if text, err := json.Marshal(r); err != nil || json.Unmarshal(text, &back) != nil || back.Writes.Latency != r.Writes.Latency {
		t.Errorf("JSON %s, %v", text, err)
	}
}

// Answers get lost under load, after the payment was taken and before; each payment is still made once, and the
// report says what it took. With one worker each fault meets a payment of its own, so that replays can be told.
func TestLoad_Faults(t *testing.T) {
	for workers, replays := range map[int]int64{1: 10, 4: -1} {
		service := clienttest.New()
		var faults []clienttest.Fault
		for range 10 {
			faults = append(faults, clienttest.LoseResponse, nil, clienttest.Unavailable, nil, clienttest.LoseRequest, nil)
		}
		c := newTestClient(t, nil, service.Serve(t, faults...).URL)
		r, err := Run(t.Context(), []*client.Client{c}, Config{Workers: workers, Count: 40})
		if err != nil {
			t.Fatal(err)
		}
		if r.Writes.Done != 40 || service.Payments() != 40 || r.Retries != 30 || (replays >= 0 && r.Replays != replays) {
			t.Errorf("%d workers: %d payments, report %+v", workers, service.Payments(), r)
		}
		if r.Writes.Answers["503"] != 10 || r.Writes.Answers["202"] != 40 || r.Writes.Answers["connection lost"] != 20 {
			t.Errorf("%d workers: answers %v", workers, r.Writes.Answers)
		}
		// With several workers a retry may meet the next fault, so that fewer first attempts do.
		if first := r.Writes.First; first["202"]+first["503"]+first["connection lost"] != 40 || workers == 1 && first["202"] != 10 {
			t.Errorf("%d workers: first attempts %v", workers, first)
		}
	}
}

// TestLoad_NoRetryAfter shows that a 503 without Retry-After is counted apart from those of the contract.
func TestLoad_NoRetryAfter(t *testing.T) {
	bare := clienttest.Respond(503, "text/html", "no server is available")
	path := filepath.Join(t.TempDir(), "journal")
	j := openJournal(t, path)
	c := newTestClient(t, nil, clienttest.New().Serve(t, bare, nil, clienttest.Unavailable, nil, nil).URL)
	r, err := Run(t.Context(), []*client.Client{c}, Config{Workers: 1, Count: 3, Journal: j})
	if err := errors.Join(err, j.Close()); err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{"202": 1, "503": 1, "503 without Retry-After": 1}
	if !maps.Equal(r.Writes.First, want) {
		t.Errorf("first attempts %v, want %v", r.Writes.First, want)
	}
	text := readFile(t, path)
	for _, line := range []string{`"attempts":2,"first":"503","outcome":"taken"`, `"attempts":2,"first":"503 without Retry-After","outcome":"taken"`} {
		if strings.Count(text, line) != 1 {
			t.Errorf("%s is not once in\n%s", line, text)
		}
	}
}

func TestLoad_UnknownOutcomesAreListed(t *testing.T) {
	service := clienttest.New()
	s := service.Serve(t, clienttest.Repeat(3, clienttest.Respond(500, "text/plain", "bug"))...)
	r, err := Run(t.Context(), []*client.Client{newTestClient(t, nil, s.URL)}, Config{Workers: 1, Count: 4, Reads: 1})
	if err != nil {
		t.Fatal(err)
	}
	if r.Writes.Unknown != 3 || r.Writes.Failed != 0 || r.Writes.Done != 1 || len(r.UnknownKeys) != 3 || len(r.Faults) == 0 {
		t.Errorf("report %+v", r)
	}
	for i, key := range r.UnknownKeys {
		if key != service.Requests()[i].Key {
			t.Errorf("key %s, sent %s", key, service.Requests()[i].Key)
		}
	}
}

// All payments of a load are alike: one refusal ends it.
func TestLoad_RefusalStops(t *testing.T) {
	service := clienttest.New()
	s := service.Serve(t, clienttest.Repeat(100, clienttest.Respond(401, "application/problem+json", `{"code":"unauthorized"}`))...)
	r, err := Run(t.Context(), []*client.Client{newTestClient(t, nil, s.URL)}, Config{Workers: 3, Duration: time.Hour})
	if p, ok := errors.AsType[*client.ProblemError](err); !ok || p.Code != "unauthorized" {
		t.Errorf("error %v", err)
	}
	if r.Writes.Failed < 1 || r.Writes.Failed > 3 || r.Writes.Done != 0 || r.Interrupted {
		t.Errorf("report %+v", r)
	}
}

// Ctrl-C comes while requests are in hand: they get their answers, so that nothing is left unknown.
func TestLoad_Interrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	service := clienttest.New()
	service.OnCreate = func(payments int) {
		if payments == 10 {
			cancel()
		}
	}
	r, err := Run(ctx, []*client.Client{newTestClient(t, nil, service.Serve(t).URL)}, Config{Workers: 4, Duration: time.Hour, Reads: 1})
	if err != nil || !r.Interrupted {
		t.Errorf("interrupted %v, error %v", r.Interrupted, err)
	}
	if r.Writes.Unknown != 0 || r.Writes.Failed != 0 || int(r.Writes.Done) != service.Payments() || r.Writes.Done < 10 {
		t.Errorf("%d payments, report %+v", service.Payments(), r)
	}
}

// The grace has an end: a service that never answers does not keep the load alive, and the payment in hand is unknown.
func TestLoad_GraceEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	service := clienttest.New()
	service.OnCreate = func(int) { cancel() }
	c := newTestClient(t, func(cfg *client.Config) { cfg.AttemptTimeout = 200 * time.Millisecond }, service.Serve(t, clienttest.Repeat(100, clienttest.Stall)...).URL)
	r, err := Run(ctx, []*client.Client{c}, Config{Workers: 1, Duration: time.Hour, Grace: 200 * time.Millisecond})
	if err != nil || r.Writes.Unknown != 1 || len(r.UnknownKeys) != 1 || service.Payments() != 1 {
		t.Errorf("report %+v, error %v", r, err)
	}
}

func TestLoad_Duration(t *testing.T) {
	service := clienttest.New()
	var progress bytes.Buffer
	r, err := Run(t.Context(), []*client.Client{newTestClient(t, nil, service.Serve(t).URL)}, Config{Workers: 2, Duration: 1200 * time.Millisecond, Progress: &progress})
	if err != nil || r.Interrupted || int(r.Writes.Done) != service.Payments() || r.Writes.Done == 0 {
		t.Errorf("%d payments, report %+v, error %v", service.Payments(), r, err)
	}
	if text := progress.String(); !strings.Contains(text, " payments (") || !strings.HasSuffix(text, "\r\x1b[K") {
		t.Errorf("progress %q", text)
	}
}

func TestLoad_Bounds(t *testing.T) {
	c := newTestClient(t, nil, "http://unused.invalid")
	_, err := Run(t.Context(), []*client.Client{c}, Config{Workers: 0, Reads: -1})
	for _, want := range []string{"workers:", "reads:", "duration or count:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}
