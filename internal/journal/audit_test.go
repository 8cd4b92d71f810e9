package journal

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/client/clienttest"
	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/journal/journaltest"
)

// auditCase is an installation without faults, until a test adds one. Service and journal have six
// payments; the last one is refused. Tests put the others into the topic.
type auditCase struct {
	t       *testing.T
	topic   *journaltest.Topic
	service *clienttest.Service
	client  *client.Client
	path    string
	at      map[int]client.Position
}

const auditTaken = 5

func newAuditCase(t *testing.T) *auditCase {
	t.Helper()
	a := &auditCase{
		t: t, topic: journaltest.NewTopic(t), service: clienttest.New(),
		path: filepath.Join(t.TempDir(), "journal"), at: map[int]client.Position{},
	}
	a.service.PositionOf = func(n int) (int32, int64) { return a.at[n].Partition, a.at[n].Offset }
	refusal := clienttest.Respond(422, "application/problem+json", `{"code":"invalid_payment"}`)
	// The response to the second one is lost, and retried.
	server := a.service.Serve(t, nil, clienttest.LoseResponse, nil, nil, nil, nil, refusal)
	a.client = journaltest.NewClient(t, nil, server.URL)
	j := openJournal(t, a.path)
	err := j.Begin()
	for range auditTaken + 1 {
		key, keyErr := client.NewKey()
		err = errors.Join(err, keyErr, j.Sent(a.client.KeyFingerprint(), key))
		r, createErr := a.client.Create(t.Context(), key, testRequest())
		err = errors.Join(err, j.Ended(key, Outcome{
			ID: r.ID, Replayed: r.Replayed, Attempts: r.Attempts, Err: createErr,
		}))
	}
	if err := errors.Join(err, j.Close()); err != nil {
		t.Fatal(err)
	}
	if n := a.service.Payments(); n != auditTaken {
		t.Fatalf("%d payments", n)
	}
	return a
}

// send puts payments into the topic. The service reports the positions of their first records.
func (a *auditCase) send(payments ...int) {
	a.t.Helper()
	for _, n := range payments {
		at := a.topic.Send(kgo.TryCommit, int32(n%journaltest.Partitions), clienttest.PaymentID(n))
		if _, there := a.at[n]; !there {
			a.at[n] = at[0]
		}
	}
}

// note appends a run to the journal.
func (a *auditCase) note(notes ...func(*Journal) error) {
	a.t.Helper()
	j := openJournal(a.t, a.path)
	err := j.Begin()
	for _, note := range notes {
		err = errors.Join(err, note(j))
	}
	if err := errors.Join(err, j.Close()); err != nil {
		a.t.Fatal(err)
	}
}

func (a *auditCase) sent(key string) func(*Journal) error {
	return func(j *Journal) error { return j.Sent(a.client.KeyFingerprint(), key) }
}

func ended(key string, o Outcome) func(*Journal) error {
	return func(j *Journal) error { return j.Ended(key, o) }
}

// logged is the topic as the audit gets it.
func (a *auditCase) logged() Topic { return Topic{brokers.At(a.topic.Brokers...), journaltest.Name} }

func (a *auditCase) audit(wait time.Duration) Report {
	a.t.Helper()
	journal := strings.NewReader(readFile(a.t, a.path))
	cfg := AuditConfig{Topic: a.logged(), Wait: wait}
	r, err := Audit(a.t.Context(), []*client.Client{a.client}, journal, cfg)
	if err != nil {
		a.t.Fatal(err)
	}
	var out bytes.Buffer
	if err := r.Write(&out); err != nil {
		a.t.Fatal(err)
	}
	a.t.Logf("\n%s", out.String())
	for _, k := range r.kinds() {
		if k.found.Count > 0 && !strings.Contains(out.String(), "  "+k.name+": "+k.found.First[0]) {
			a.t.Errorf("%s is not printed", k.name)
		}
	}
	return r
}

// TestAudit_Holds: payments of other clients, aborted records, and keys of unknown outcome are no
// findings.
func TestAudit_Holds(t *testing.T) {
	a := newAuditCase(t)
	a.topic.Send(kgo.TryAbort, 1, clienttest.PaymentID(0), clienttest.PaymentID(1))
	a.send(0, 1, 2)
	a.topic.Send(kgo.TryCommit, 2, "foreign", clienttest.PaymentID(77))
	a.send(3, 4)
	a.topic.Send(kgo.TryAbort, 0, clienttest.PaymentID(3)) // The log ends with an aborted record.
	taken, err := a.client.Create(t.Context(), "killed", testRequest())
	if err != nil || taken.ID != clienttest.PaymentID(5) {
		t.Fatal(taken.ID, err)
	}
	a.send(5)
	lost := Outcome{Err: &client.UnknownError{Key: "k", Err: errors.New("EOF")}}
	a.note(a.sent("killed"), a.sent("never-arrived"), ended("never-arrived", lost))
	r := a.audit(time.Minute)
	want := Report{
		Keys: 8, Taken: 5, Refused: 1, Unknown: 2, UnknownTaken: 1, UnknownNotTaken: 1, Records: 8, Others: 2,
		Confirmed: 6,
	}
	if err := r.Fault(); err != nil || fmt.Sprint(r) != fmt.Sprint(want) {
		t.Errorf("%v\n%+v, want\n%+v", err, r, want)
	}
}

// TestAudit_Catches has the controls: each violation is found, and nothing else.
func TestAudit_Catches(t *testing.T) {
	for name, wrong := range map[string]func(*auditCase){
		"lost 1":       func(a *auditCase) { a.send(0, 1, 2, 3, 4); a.service.Forget(2) },
		"missing 1":    func(a *auditCase) { a.send(0, 1, 2, 3); a.at[4] = a.at[3] },
		"duplicates 1": func(a *auditCase) { a.send(0, 1, 2, 3, 4, 2) },
		"misplaced 1":  func(a *auditCase) { a.send(0, 1, 2, 3, 4); a.at[4] = a.at[1] },
		"missing 2": func(a *auditCase) { // Aborted: no consumer has it.
			a.send(0, 1, 2)
			at := a.topic.Send(kgo.TryAbort, 1, clienttest.PaymentID(3), clienttest.PaymentID(4))
			a.at[3], a.at[4] = at[0], at[1]
		},
		"missing 3": func(a *auditCase) { // The topic has lost its end.
			a.send(0, 1)
			for n := 2; n < auditTaken; n++ {
				// 2 is the offset of the next record, after payment 0 and its marker.
				a.at[n] = client.Position{Topic: journaltest.Name, Offset: int64(n)}
			}
		},
		"hidden 2": func(a *auditCase) {
			a.topic.Open(1)
			a.send(0, 1, 2, 3, 4) // 1 and 4 are in that partition
		},
		"missing 1, hidden 2": func(a *auditCase) {
			a.topic.Open(1)
			a.send(0, 1, 2, 4)
			a.at[3] = a.at[2]
		},
		"stored 1": func(a *auditCase) { // A refused key that has a payment.
			a.send(0, 1, 2, 3, 4)
			if _, err := a.client.Create(a.t.Context(), "refused", testRequest()); err != nil {
				a.t.Fatal(err)
			}
			a.send(5)
			a.note(a.sent("refused"), ended("refused", Outcome{Err: &client.ProblemError{Status: 422}}))
		},
		"lost 2": func(a *auditCase) { // Responses with ids that the service does not know.
			a.send(0, 1, 2, 3, 4)
			for n := range 2 {
				key := fmt.Sprint("k", n)
				a.note(a.sent(key), ended(key, Outcome{ID: clienttest.PaymentID(50 + n)}))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAuditCase(t)
			wrong(a)
			r := a.audit(time.Minute)
			err := r.Fault()
			if err == nil || !strings.HasSuffix(err.Error(), ": "+name) {
				t.Errorf("%v", err)
			}
			if errors.Is(err, ErrHidden) != (name == "hidden 2") {
				t.Errorf("got %v: is it hidden only?", err)
			}
		})
	}
}

// TestAudit_NoPositions: the service does not show where payments are. The audit confirms those
// that are in the topic once, and counts them as unplaced. A payment that is not there is missing
// only if no transaction hides records.
func TestAudit_NoPositions(t *testing.T) {
	for name, row := range map[string]struct {
		arrange  func(*auditCase)
		unplaced int64
		fault    string
	}{
		"Holds": {func(a *auditCase) { a.send(0, 1, 2, 3, 4) }, 5, ""},
		// Only positions could show it.
		"Misplaced":  {func(a *auditCase) { a.send(0, 1, 2, 3, 4); a.at[4] = a.at[1] }, 5, ""},
		"Missing":    {func(a *auditCase) { a.send(0, 1, 2, 3) }, 4, ": missing 1"},
		"Duplicates": {func(a *auditCase) { a.send(0, 1, 2, 3, 4, 2) }, 5, ": duplicates 1"},
		"Lost":       {func(a *auditCase) { a.send(0, 1, 2, 3, 4); a.service.Forget(2) }, 4, ": lost 1"},
		"Hidden": {func(a *auditCase) {
			a.topic.Open(2)
			a.send(0, 1, 2, 3, 4) // 2 is in that partition
		}, 4, ": hidden 1"},
		"Unsent": {func(a *auditCase) { a.service.NeverSend = true }, 0, ": unsent 5"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAuditCase(t)
			a.service.HidePosition = true
			row.arrange(a)
			wait := time.Minute
			if a.service.NeverSend {
				wait = 0
			}
			r := a.audit(wait)
			fault := ""
			if err := r.Fault(); err != nil {
				fault = err.Error()
			}
			if !strings.HasSuffix(fault, row.fault) || (fault == "") != (row.fault == "") {
				t.Errorf("got fault %q, want %q at its end", fault, row.fault)
			}
			if r.Unplaced != row.unplaced {
				t.Errorf("got %d unplaced, want %d", r.Unplaced, row.unplaced)
			}
		})
	}
}

// TestAudit_MarkerLate: a transaction that ends after the first reading of the ends is no finding.
func TestAudit_MarkerLate(t *testing.T) {
	a := newAuditCase(t)
	abort, looked := a.topic.Open(1), a.topic.EndsRead(1)
	a.send(0, 1, 2, 3, 4)
	aborted := make(chan error, 1)
	go func() {
		<-looked
		aborted <- abort()
	}()
	r := a.audit(time.Minute)
	if err := <-aborted; err != nil {
		t.Fatal(err)
	}
	if err := r.Fault(); err != nil || r.Confirmed != auditTaken {
		t.Errorf("got %v and %d confirmed, want no fault and %d", err, r.Confirmed, auditTaken)
	}
}

// TestAudit_Unsent: payments that the service reports as created, one of which is in the topic.
func TestAudit_Unsent(t *testing.T) {
	a := newAuditCase(t)
	a.service.NeverSend = true
	a.send(0)
	r := a.audit(0)
	err := r.Fault()
	if err == nil || !strings.HasSuffix(err.Error(), ": unsent 5") ||
		!strings.Contains(strings.Join(r.Unsent.First, "\n"), "is in the topic at payments/0:0") {
		t.Errorf("%v %v", err, r.Unsent)
	}
}

// TestAudit_CannotJudge: what keeps an audit from being carried out is an error and no finding.
func TestAudit_CannotJudge(t *testing.T) {
	a := newAuditCase(t)
	a.send(0, 1, 2, 3, 4)
	journal := readFile(t, a.path)
	other, err := a.client.ForTenant("pl_test_other")
	if err != nil {
		t.Fatal(err)
	}
	wrongAddress := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(wrongAddress.Close)
	dead := func(cfg *client.Config) { cfg.RetryFor = 50 * time.Millisecond }
	for want, try := range map[string]struct {
		client  *client.Client
		journal string
		topic   Topic
	}{
		"it has no payment":                    {a.client, `{"event":"begin","version":1}` + "\n", a.logged()},
		"line 1":                               {a.client, "no journal\nat all\n", a.logged()},
		"6 payments of a tenant whose API key": {other, journal, a.logged()},
		"404":                                  {journaltest.NewClient(t, nil, wrongAddress.URL), journal, a.logged()},
		"connection refused":                   {journaltest.NewClient(t, dead, deadServer(t)), journal, a.logged()},
		"topic others":                         {a.client, journal, Topic{brokers.At(a.topic.Brokers...), "others"}},
		"brokers and a topic":                  {a.client, journal, Topic{Name: journaltest.Name}},
	} {
		clients, journal := []*client.Client{try.client}, strings.NewReader(try.journal)
		_, err := Audit(t.Context(), clients, journal, AuditConfig{Topic: try.topic})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %q in it", err, want)
		}
	}
}

// TestAudit_Progress: the line has what was done, of how much.
func TestAudit_Progress(t *testing.T) {
	a := &audit{total: 4}
	a.queried.Store(1)
	if got, want := a.progress(0), "[=====               ] queried 1 of 4 payments"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	a.queried.Store(4)
	a.read.Store(7)
	if got, want := a.progress(0), "queried 4 payments, read 7 records of the topic"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
