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
	"github.com/paylatch/paylatch/internal/journal/journaltest"
)

func TestRun_Count(t *testing.T) {
	service := clienttest.New()
	c := journaltest.NewClient(t, nil, service.Serve(t).URL)
	r, err := Run(t.Context(), []*client.Client{c}, Config{Workers: 4, Count: 50, Reads: 2})
	if err != nil {
		t.Fatal(err)
	}
	if r.Create.Done != 50 || r.Status.Done != 100 || service.Payments() != 50 || r.Retries != 0 || r.Interrupted {
		t.Errorf("%d payments, report %+v", service.Payments(), r)
	}
	if r.Create.Responses["202"] != 50 || r.Status.Responses["200"] != 100 ||
		r.Create.Latency.Count != 50 || r.Status.Latency.Count != 100 {
		t.Errorf("report %+v", r)
	}
	for _, l := range []Latency{r.Create.Latency, r.Status.Latency} {
		if l.P50 <= 0 || l.P50 > l.P90 || l.P90 > l.P95 || l.P95 > l.P99 || l.P99 > l.Max {
			t.Errorf("latency %+v", l)
		}
	}
	var out bytes.Buffer
	if err := r.Write(&out); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", out.String())
	for _, want := range []string{
		"create", "status", "p99 ms", "responses to create: 202 × 50", "responses to status: 200 × 100", "4 workers",
		"audit: not made",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	var back Report
	text, err := json.Marshal(r)
	if err != nil || json.Unmarshal(text, &back) != nil || back.Create.Latency != r.Create.Latency {
		t.Errorf("got JSON %s, %v", text, err)
	}
}

// TestRun_Faults: requests and responses are lost under load. Each payment is made once, and the
// report has the retries. With one worker each fault meets another payment, so that the replays are
// known.
func TestRun_Faults(t *testing.T) {
	for workers, replays := range map[int]int64{1: 10, 4: -1} {
		service := clienttest.New()
		var faults []clienttest.Fault
		for range 10 {
			faults = append(
				faults, clienttest.LoseResponse, nil, clienttest.Unavailable, nil, clienttest.LoseRequest, nil,
			)
		}
		c := journaltest.NewClient(t, nil, service.Serve(t, faults...).URL)
		r, err := Run(t.Context(), []*client.Client{c}, Config{Workers: workers, Count: 40})
		if err != nil {
			t.Fatal(err)
		}
		if r.Create.Done != 40 || service.Payments() != 40 || r.Retries != 30 ||
			(replays >= 0 && r.Replays != replays) {
			t.Errorf("%d workers: %d payments, report %+v", workers, service.Payments(), r)
		}
		responses := r.Create.Responses
		if responses["503"] != 10 || responses["202"] != 40 || responses["connection lost"] != 20 {
			t.Errorf("%d workers: got responses %v", workers, responses)
		}
		// With several workers a retry may meet the next fault, so that fewer first attempts do.
		first := r.Create.FirstResponses
		if first["202"]+first["503"]+first["connection lost"] != 40 || workers == 1 && first["202"] != 10 {
			t.Errorf("%d workers: first attempts %v", workers, first)
		}
	}
}

// TestRun_NoRetryAfter shows that a 503 without Retry-After is counted apart from those of the
// contract.
func TestRun_NoRetryAfter(t *testing.T) {
	bare := clienttest.Respond(503, "text/html", "no server is available")
	path := filepath.Join(t.TempDir(), "journal")
	j := openJournal(t, path)
	c := journaltest.NewClient(t, nil, clienttest.New().Serve(t, bare, nil, clienttest.Unavailable, nil, nil).URL)
	r, err := Run(t.Context(), []*client.Client{c}, Config{Workers: 1, Count: 3, Journal: j})
	if err := errors.Join(err, j.Close()); err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{"202": 1, "503": 1, "503 without Retry-After": 1}
	if !maps.Equal(r.Create.FirstResponses, want) {
		t.Errorf("first attempts %v, want %v", r.Create.FirstResponses, want)
	}
	text := readFile(t, path)
	for _, line := range []string{
		`"attempts":2,"first":"503","outcome":"taken"`,
		`"attempts":2,"first":"503 without Retry-After","outcome":"taken"`,
	} {
		if strings.Count(text, line) != 1 {
			t.Errorf("%s is not once in\n%s", line, text)
		}
	}
}

func TestRun_UnknownOutcomesAreListed(t *testing.T) {
	service := clienttest.New()
	bug := clienttest.Respond(500, "text/plain", "bug")
	c := journaltest.NewClient(t, nil, service.Serve(t, clienttest.Repeat(3, bug)...).URL)
	r, err := Run(t.Context(), []*client.Client{c}, Config{Workers: 1, Count: 4, Reads: 1})
	if err != nil {
		t.Fatal(err)
	}
	if r.Create.Unknown != 3 || r.Create.Failed != 0 || r.Create.Done != 1 || len(r.UnknownKeys) != 3 ||
		len(r.Errors) == 0 {
		t.Errorf("report %+v", r)
	}
	for i, key := range r.UnknownKeys {
		if key != service.Requests()[i].Key {
			t.Errorf("key %s, sent %s", key, service.Requests()[i].Key)
		}
	}
}

// TestRun_RefusalStops: all payments of a load are alike, so one refusal ends it.
func TestRun_RefusalStops(t *testing.T) {
	service := clienttest.New()
	refusal := clienttest.Respond(401, "application/problem+json", `{"code":"unauthorized"}`)
	s := service.Serve(t, clienttest.Repeat(100, refusal)...)
	c := journaltest.NewClient(t, nil, s.URL)
	r, err := Run(t.Context(), []*client.Client{c}, Config{Workers: 3, Duration: time.Hour})
	if p, ok := errors.AsType[*client.ProblemError](err); !ok || p.Code != "unauthorized" {
		t.Errorf("error %v", err)
	}
	if r.Create.Failed < 1 || r.Create.Failed > 3 || r.Create.Done != 0 || r.Interrupted {
		t.Errorf("report %+v", r)
	}
}

// TestRun_Interrupted: requests in flight get their responses, so that no outcome is unknown.
func TestRun_Interrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	service := clienttest.New()
	service.OnCreate = func(payments int) {
		if payments == 10 {
			cancel()
		}
	}
	c := journaltest.NewClient(t, nil, service.Serve(t).URL)
	r, err := Run(ctx, []*client.Client{c}, Config{Workers: 4, Duration: time.Hour, Reads: 1})
	if err != nil || !r.Interrupted {
		t.Errorf("interrupted %v, error %v", r.Interrupted, err)
	}
	if r.Create.Unknown != 0 || r.Create.Failed != 0 || int(r.Create.Done) != service.Payments() ||
		r.Create.Done < 10 {
		t.Errorf("%d payments, report %+v", service.Payments(), r)
	}
}

// TestRun_GraceEnds: a service that never responds does not keep the load from ending. The outcome
// of the payment in flight is unknown.
func TestRun_GraceEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	service := clienttest.New()
	service.OnCreate = func(int) { cancel() }
	c := journaltest.NewClient(t, nil, service.Serve(t, clienttest.Repeat(100, clienttest.Stall)...).URL)
	r, err := Run(ctx, []*client.Client{c}, Config{Workers: 1, Duration: time.Hour, Grace: 200 * time.Millisecond})
	if err != nil || r.Create.Unknown != 1 || len(r.UnknownKeys) != 1 || service.Payments() != 1 {
		t.Errorf("report %+v, error %v", r, err)
	}
}

func TestRun_Duration(t *testing.T) {
	service := clienttest.New()
	var progress bytes.Buffer
	c := journaltest.NewClient(t, nil, service.Serve(t).URL)
	r, err := Run(t.Context(), []*client.Client{c}, Config{
		Workers: 2, Duration: 1200 * time.Millisecond, Progress: &progress,
	})
	if err != nil || r.Interrupted || int(r.Create.Done) != service.Payments() || r.Create.Done == 0 {
		t.Errorf("%d payments, report %+v, error %v", service.Payments(), r, err)
	}
	if text := progress.String(); !strings.Contains(text, ": create ") || !strings.HasSuffix(text, "\r\x1b[K") {
		t.Errorf("progress %q", text)
	}
}

func TestRun_Bounds(t *testing.T) {
	c := journaltest.NewClient(t, nil, "http://unused.invalid")
	_, err := Run(t.Context(), []*client.Client{c}, Config{Workers: 0, Reads: -1})
	for _, want := range []string{"workers:", "reads", "duration or count:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}
