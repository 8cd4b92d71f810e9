package auditor

import (
	"slices"
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

// differences returns the members of the event in which a row and an event differ. An event contains
// all that a row contains, so that a lost row can be put back.
func differences(row, event payment.Payment) []string {
	members := row.Differences(event)
	for member, differs := range map[string]bool{
		"/tenant":      row.Tenant.Name != event.Tenant.Name,
		"/seq":         row.Seq != event.Seq,
		"/created_at":  !row.CreatedAt.Equal(event.CreatedAt),
		"/traceparent": row.TraceParent != event.TraceParent,
	} {
		if differs {
			members = append(members, member)
		}
	}
	slices.Sort(members)
	return members
}
