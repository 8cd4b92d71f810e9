package auditor

import (
	"strings"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// compare counts the next row as differing if its record does not say the same. The row claims the
// record.
func (m *merge) compare(r kafka.Record) {
	if how := difference(m.row, r); how != "" {
		add(&m.report.Differing, &m.report.Examples.Differing, m.row.ID.String()+": "+how)
	}
}

// difference returns how a row and its record differ, without their contents. It is empty if they
// do not.
func difference(row store.SentRow, r kafka.Record) string {
	if row.Broken != nil {
		return row.Broken.Error()
	}
	event, err := kafka.Decode(r.Event)
	if err != nil {
		return err.Error()
	}
	return strings.Join(differences(row.Payment, event), ", ")
}

// differences returns the members of the event in which a row and an event differ. Seq, time and
// trace are not compared. They are new if a restored database lost a payment, and its client's
// retry created it again before a takeover could put it back.
func differences(row, event payment.Payment) []string {
	members := row.Differences(event)
	if row.Tenant.Name != event.Tenant.Name {
		members = append(members, "/tenant")
	}
	return members
}
