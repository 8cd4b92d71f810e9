package journal

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/client"
)

// Payment is a payment that must be in the topic.
type Payment struct {
	ID uuid.UUID
	// Sent reports that the payment was reported as sent.
	Sent bool
	// Position is where the payment was reported. It is nil if it is not known.
	Position *client.Position
}

// Record is a committed record of the topic.
type Record struct {
	ID       uuid.UUID
	Position client.Position
}

// Comparison is the result of comparing payments with a topic.
type Comparison struct {
	// Confirmed counts the payments that are in the topic where they were reported.
	Confirmed int64
	// Unplaced counts those of them whose reported position is not known.
	Unplaced int64
	// Repeated counts the records beyond the first of each payment.
	Repeated int64
	// Unsent are payments that were not reported as sent.
	Unsent Findings
	// Missing are payments that are sent and not in the topic.
	Missing Findings
	// Duplicates are payments that are in the topic more than once.
	Duplicates Findings
	// Misplaced are payments that are in the topic, but not where they were reported.
	Misplaced Findings
	// Unexpected are records of other payments.
	Unexpected Findings
}

// Compare compares payments with all committed records of a topic. It is the core of [Audit], for
// tests that read the topic with other consumers.
func Compare(payments []Payment, records []Record) Comparison {
	var c Comparison
	found := make(map[uuid.UUID][]client.Position, len(records))
	for _, r := range records {
		found[r.ID] = append(found[r.ID], r.Position)
	}
	for _, p := range payments {
		c.add(p, found[p.ID], c.missing)
		delete(found, p.ID)
	}
	for id, at := range found {
		c.Repeated += int64(len(at)) - 1
		for _, position := range at {
			c.Unexpected.add("record of unknown payment %s at %s", id, positions([]client.Position{position}))
		}
	}
	return c
}

// add judges one payment. It calls absent for a payment that is sent and has no record.
func (c *Comparison) add(p Payment, found []client.Position, absent func(Payment)) {
	if len(found) > 1 {
		c.Repeated += int64(len(found)) - 1
		c.Duplicates.add("payment %s is in the topic %d times: at %s", p.ID, len(found), positions(found))
	}
	switch {
	case !p.Sent && len(found) > 0:
		c.Unsent.add("payment %s is in the topic at %s, and not marked sent", p.ID, positions(found))
	case !p.Sent:
		c.Unsent.add("payment %s is not sent", p.ID)
	case len(found) == 0:
		absent(p)
	case p.Position != nil && !slices.Contains(found, *p.Position):
		c.Misplaced.add("payment %s is in the topic at %s; it was reported at %s",
			p.ID, positions(found), positions([]client.Position{*p.Position}))
	default:
		c.Confirmed++
		if p.Position == nil {
			c.Unplaced++
		}
	}
}

func (c *Comparison) missing(p Payment) {
	if p.Position == nil {
		c.Missing.add("payment %s is not in the topic", p.ID)
		return
	}
	c.Missing.add("payment %s is not in the topic; it was reported at %s",
		p.ID, positions([]client.Position{*p.Position}))
}

// positions formats them as topic/partition:offset.
func positions(list []client.Position) string {
	var parts []string
	for _, p := range list[:min(len(list), findingsShown)] {
		parts = append(parts, fmt.Sprintf("%s/%d:%d", p.Topic, p.Partition, p.Offset))
	}
	return strings.Join(parts, ", ")
}
