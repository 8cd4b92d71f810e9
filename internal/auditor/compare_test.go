package auditor

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// TestDifference changes each member of a record in turn. The audit names the member, and not what
// it contains.
func TestDifference(t *testing.T) {
	t.Parallel()
	for member, change := range map[string]func(*payment.Payment){
		// As after a retry that came before a takeover; see TestRestore_RetriedFirst.
		"":                  func(p *payment.Payment) { p.Seq, p.CreatedAt, p.TraceParent = 8, time.Now(), "" },
		"/amount":           func(p *payment.Payment) { p.Money.Minor = 99999900 },
		"/currency":         func(p *payment.Payment) { p.Money.Currency = "USD" },
		"/originator/id":    func(p *payment.Payment) { p.Originator.ID = "changed" },
		"/originator/name":  func(p *payment.Payment) { p.Originator.Name = "changed" },
		"/beneficiary/id":   func(p *payment.Payment) { p.Beneficiary.ID = "changed" },
		"/beneficiary/name": func(p *payment.Payment) { p.Beneficiary.Name = "changed" },
		"/sender/type":      func(p *payment.Payment) { p.Sender.Type = "changed" },
		"/sender/number":    func(p *payment.Payment) { p.Sender.Number = "changed" },
		"/receiver/type":    func(p *payment.Payment) { p.Receiver.Type = "changed" },
		"/receiver/number":  func(p *payment.Payment) { p.Receiver.Number = "changed" },
		"/reference":        func(p *payment.Payment) { p.Reference = "changed" },
		"/tenant":           func(p *payment.Payment) { p.Tenant.Name = "changed" },
	} {
		row := content(id(1))
		event := row
		change(&event)
		if got := difference(store.SentRow{Payment: row}, recordOf(0, event)); got != member {
			t.Errorf("got %q, want %q", got, member)
		}
	}
}

// TestDifference_Undecodable has a record whose value is not that of an event, and a row whose
// parties are missing.
func TestDifference_Undecodable(t *testing.T) {
	t.Parallel()
	row, r := store.SentRow{Payment: content(id(1))}, record(0, id(1).String())
	r.Value = []byte("{}")
	if got := difference(row, r); !strings.Contains(got, "not an event of ours") {
		t.Errorf("got %q, want that it is not an event of ours", got)
	}
	row.Broken = errors.New("a party is missing")
	if got := difference(row, record(0, id(1).String())); got != "a party is missing" {
		t.Errorf("got %q, want that a party is missing", got)
	}
}

// TestRun_Differing: a record that a row claims and that says something else is a fault.
func TestRun_Differing(t *testing.T) {
	t.Parallel()
	changed := content(id(2))
	changed.Money.Minor++
	log := newFakeLog(3, record(0, id(1).String()), recordOf(1, changed))
	var rows []row
	for n := 1; n <= 2; n++ {
		rows = append(rows, row{id(n), 0, int64(n - 1)})
	}
	got := mustRun(t, newFakeTable(1, rows...), log)
	want := id(2).String() + ": /amount"
	if got.Differing != 1 || len(got.Examples.Differing) != 1 || got.Examples.Differing[0] != want ||
		got.Missing+got.Duplicates+got.Unexpected != 0 || got.OK() || !got.Contradicts() {
		t.Errorf("got %+v, want one that differs: %s", got, want)
	}
	log.records[0] = []kafka.Record{record(0, id(1).String()), record(1, id(2).String())}
	if got := mustRun(t, newFakeTable(1, rows...), log); got.Differing != 0 || !got.OK() {
		t.Errorf("got %+v, want no fault", got)
	}
}
