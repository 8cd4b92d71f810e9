package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/internal/auditor"
	"github.com/paylatch/paylatch/internal/journal"
	"github.com/paylatch/paylatch/internal/loadtest"
)

// goodRun is the evidence of a run in which all went well: two steps, 200 payments.
func goodRun() evidence {
	work := func(status string) loadtest.Work {
		return loadtest.Work{Done: 100, FirstResponses: map[string]int64{status: 98, "503": 2}}
	}
	load := loadtest.Report{Create: work("202"), Status: work("200")}
	killed := row{step: step{name: "kill", killing: true}, load: load, balancer: balancerStats{Resent: 3}}
	killed.sent = map[string]int64{"r-1": 100}
	stopped := row{step: step{name: "stop"}, load: load, balancer: balancerStats{Redispatched: 1}}
	stopped.sent = map[string]int64{"r-1": 0, "r-2": 100}
	return evidence{
		rows:    []row{killed, stopped},
		verify:  auditor.Report{Payments: 200, Records: 200},
		readers: []counts{{"kcat", 200, 200}},
		audit:   journal.Report{Keys: 200, Confirmed: 200},
	}
}

// TestFaults shows that the verdict finds nothing in a good run, and each fault in a bad one.
func TestFaults(t *testing.T) {
	if err := goodRun().faults(); err != nil {
		t.Fatalf("faults of a good run: %v", err)
	}
	for want, spoil := range map[string]func(*evidence){
		"1 duplicates":                  func(e *evidence) { e.verify.Duplicates = 1 },
		"Missing:1":                     func(e *evidence) { e.verify.Missing = 1 },
		"Unexpected:1":                  func(e *evidence) { e.verify.Unexpected = 1 },
		"1 payments differ":             func(e *evidence) { e.verify.Differing = 1 },
		"Hidden:1":                      func(e *evidence) { e.verify.Hidden = 1 },
		"Unsent:1":                      func(e *evidence) { e.verify.Unsent = 1 },
		"not all is judged":             func(e *evidence) { e.verify.NotJudged.InFlight = 1 },
		"kcat reads 201 records of 200": func(e *evidence) { e.readers[0].records = 201 },
		"kcat reads 200 records of 199": func(e *evidence) { e.readers[0].payments = 199 },
		"lost 1":                        func(e *evidence) { e.audit.Lost.Count = 1 },
		"200 creates were accepted, 201 payments": func(e *evidence) { e.verify.Payments = 201 },
		"199 confirmed":                                func(e *evidence) { e.audit.Confirmed = 199 },
		"replica r-2 sent nothing":                     func(e *evidence) { e.rows[1].sent["r-2"] = 0 },
		"no status requests":                           func(e *evidence) { e.rows[1].load.Status.Done = 0 },
		"1 creates failed":                             func(e *evidence) { e.rows[1].load.Create.Failed = 1 },
		"1 ended unknown":                              func(e *evidence) { e.rows[1].load.Create.Unknown = 1 },
		"1 status requests failed":                     func(e *evidence) { e.rows[0].load.Status.Failed = 1 },
		`creates ended with "connection lost"`:         firstAttempt("connection lost"),
		`creates ended with "502"`:                     firstAttempt("502"),
		`creates ended with "503 without Retry-After"`: firstAttempt("503 without Retry-After"),
		`creates ended with "time-out"`:                firstAttempt("time-out"),
		`step "stop": 1 requests got no response`:      func(e *evidence) { e.rows[1].balancer.Resent = 1 },
		`step "stop": 1 requests found`:                func(e *evidence) { e.rows[1].stops.Redispatched = 1 },
		`step "kill": no request was interrupted`:      func(e *evidence) { e.rows[0].balancer.Resent = 0 },
	} {
		e := goodRun()
		spoil(&e)
		if err := e.faults(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

// firstAttempt lets one first attempt of a create end like this.
func firstAttempt(label string) func(*evidence) {
	return func(e *evidence) { e.rows[1].load.Create.FirstResponses = map[string]int64{"202": 99, label: 1} }
}

// TestKept shows that a replica that was recreated, restarted or lost is found.
func TestKept(t *testing.T) {
	before := []container{{name: "r-1", id: "a", started: "1"}}
	after := append(slices.Clone(before), container{name: "r-2"}, container{name: "r-3"}, container{name: "r-4"})
	if err := kept(before, after); err != nil {
		t.Errorf("got %v, want none", err)
	}
	for want, spoil := range map[string]func([]container) []container{
		"r-1 was recreated": func(c []container) []container { c[0].id = "e"; return c },
		"or restarted":      func(c []container) []container { c[0].started = "2"; return c },
		"3 replicas run":    func(c []container) []container { return c[:3] },
	} {
		err := kept(before, spoil(slices.Clone(after)))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

// TestReplaced shows that a replica that kept its container or its image is found.
func TestReplaced(t *testing.T) {
	before := []container{{name: "r-1", id: "a", image: "old"}, {name: "r-2", id: "b", image: "old"}}
	after := []container{{name: "r-1", id: "c", image: "new"}, {name: "r-2", id: "d", image: "new"}}
	if err := replaced(before, after, "new"); err != nil {
		t.Errorf("got %v, want none", err)
	}
	for want, after := range map[string][]container{
		"r-2 was not replaced":      {after[0], before[1]},
		"1 replicas run":            after[:1],
		"r-2 has image other, want": {after[0], {name: "r-2", id: "d", image: "other"}},
	} {
		if err := replaced(before, after, "new"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	if replaced(nil, nil, "new") == nil {
		t.Error("no replica at all: got no error")
	}
}

// TestSentSince shows how counters of replicas are compared that went on, started again, or are
// new.
func TestSentSince(t *testing.T) {
	at := func(name, id, started string, sent int64) replica {
		return replica{container: container{name: name, id: id, started: started}, sent: sent}
	}
	before := []replica{
		at("r-1", "a", "1", 10), at("r-2", "b", "1", 10), at("r-3", "c", "1", 10),
		at("r-4", "d", "1", 10),
	}
	after := []replica{at("r-1", "a", "1", 15), at("r-2", "b", "2", 20), at("r-3", "e", "2", 30)}
	got := sentSince(before, after)
	if len(got) != 3 || got["r-1"] != 5 || got["r-2"] != 20 || got["r-3"] != 30 {
		t.Errorf("got %v, want 5, 20 and 30", got)
	}
}

// TestParseStats reads the statistics page of HAProxy 3.0, shortened.
func TestParseStats(t *testing.T) {
	const page = "# pxname,svname,wretr,wredis,\n" +
		"api,FRONTEND,,,\nreplicas,replica1,9,9,\nreplicas,BACKEND,3,4,\n"
	got, err := parseStats(page)
	if want := (balancerStats{Resent: 3, Redispatched: 4}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	noColumn, noBackend := strings.Replace(page, "wretr", "other", 1), strings.Replace(page, "BACKEND", "other", 1)
	for _, bad := range []string{"", noColumn, noBackend} {
		if got, err := parseStats(bad); err == nil {
			t.Errorf("got %+v of %q, want an error", got, bad)
		}
	}
}
