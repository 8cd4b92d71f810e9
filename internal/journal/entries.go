package journal

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
)

const (
	// entriesMax bounds the payments of a journal. An audit has them in memory, at some 300 bytes
	// each.
	entriesMax = 2_000_000
	// lineBytesMax is more than a line can have: key and reason are bounded.
	lineBytesMax = 16 << 10
)

// entry is one key of a journal with its outcome.
type entry struct {
	key     string
	tenant  string
	outcome string
	// id is the payment's, if it was taken.
	id uuid.UUID
}

// entries are the keys of a journal in the order in which they were sent.
type entries struct {
	list []*entry
	// torn counts the lines that a killed client left incomplete.
	torn int
}

// readEntries reads all runs of a journal. An invalid line is an error unless it is the last one of
// its run. Then the client was killed: the key of an incomplete line was not sent, and an
// incomplete outcome leaves its key with an unknown one.
func readEntries(r io.Reader) (entries, error) {
	var all entries
	var torn error // Of the line before.
	byKey := map[string]*entry{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, lineBytesMax)
	for n := 1; lines.Scan(); n++ {
		l, err := decodeLine(lines.Bytes())
		if torn != nil && (err != nil || l.Event != eventBegin) {
			return all, torn
		}
		torn = nil
		if err != nil {
			torn = fmt.Errorf("journal: line %d: %w", n, err)
			all.torn++
			continue
		}
		if err := all.add(l, byKey); err != nil {
			return all, fmt.Errorf("journal: line %d: %w", n, err)
		}
	}
	return all, lines.Err()
}

func (all *entries) add(l line, byKey map[string]*entry) error {
	known := byKey[l.Key]
	switch {
	case l.Event == eventBegin:
		return nil
	case l.Event == eventSent && known != nil:
		return fmt.Errorf("key %q is there twice", l.Key)
	case l.Event == eventSent && len(all.list) == entriesMax:
		return fmt.Errorf("more than %d payments; audit the journals of shorter loads", entriesMax)
	case l.Event == eventSent:
		known = &entry{key: l.Key, tenant: l.Tenant, outcome: outcomeUnknown}
		byKey[l.Key] = known
		all.list = append(all.list, known)
		return nil
	case known == nil:
		return fmt.Errorf("an outcome of key %q, which was not sent", l.Key)
	}
	known.outcome = l.Outcome
	switch l.Outcome {
	case outcomeTaken:
		id, err := uuid.Parse(l.ID)
		known.id = id
		return err
	case outcomeRefused, outcomeNotSent, outcomeUnknown:
		return nil
	}
	return errors.New("no outcome")
}
