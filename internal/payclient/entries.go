package payclient

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
)

const (
	// auditedMax bounds the payments of a journal, all of which an audit has in memory, at some 300 bytes each.
	auditedMax = 2_000_000
	// journalLineMax is more than a line may have: key and reason are bounded.
	journalLineMax = 16 << 10
)

// entered is what a journal says of one key.
type entered struct {
	key     string
	tenant  string
	outcome string
	id      uuid.UUID // of what was taken
}

// entries are a journal's keys in the order in which they were sent.
type entries struct {
	list []*entered
	torn int // lines that a killed client left half-written
}

// readEntries takes each run's lines as they are. A line that is none is a fault of the journal, unless it is the last one of its run: the key of a
// half-written line was not sent, and a half-written answer leaves its key of unknown outcome.
func readEntries(r io.Reader) (entries, error) {
	var all entries
	var torn error // of the line before
	byKey := map[string]*entered{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, journalLineMax)
	for n := 1; lines.Scan(); n++ {
		e, err := decodeEntry(lines.Bytes())
		if torn != nil && (err != nil || e.Event != eventBegin) {
			return all, torn
		}
		if torn = nil; err != nil {
			torn = fmt.Errorf("journal: line %d: %w", n, err)
			all.torn++
			continue
		}
		if err := all.enter(e, byKey); err != nil {
			return all, fmt.Errorf("journal: line %d: %w", n, err)
		}
	}
	return all, lines.Err()
}

func (all *entries) enter(e entry, byKey map[string]*entered) error {
	known := byKey[e.Key]
	switch {
	case e.Event == eventBegin:
		return nil
	case e.Event == eventSent && known != nil:
		return fmt.Errorf("key %s is there twice", printable(e.Key))
	case e.Event == eventSent && len(all.list) == auditedMax:
		return fmt.Errorf("more than %d payments; audit the journals of shorter loads", auditedMax)
	case e.Event == eventSent:
		known = &entered{key: e.Key, tenant: e.Tenant, outcome: outcomeUnknown}
		byKey[e.Key] = known
		all.list = append(all.list, known)
		return nil
	case known == nil:
		return fmt.Errorf("an answer for key %s, which was not sent", printable(e.Key))
	}
	switch known.outcome = e.Outcome; e.Outcome {
	case outcomeTaken:
		id, err := uuid.Parse(e.ID)
		known.id = id
		return err
	case outcomeRefused, outcomeNotSent, outcomeUnknown:
		return nil
	}
	return errors.New("no outcome")
}
