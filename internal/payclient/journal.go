package payclient

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Outcomes of a create, as the journal tells them.
const (
	outcomeTaken   = "taken"    // 202: the payment is on record and will be sent
	outcomeRefused = "refused"  // a 4xx, and no earlier attempt may have arrived: there is no payment
	outcomeNotSent = "not_sent" // no server was reached: there is no payment
	outcomeUnknown = "unknown"  // there may be one; audit finds out
)

// Events of a journal. Each run begins with a line of its own, so that a line which a killed client left half-written can only be the last one of its
// run: before a begin, or at the end of the file.
const (
	eventBegin  = "begin"
	eventSent   = "sent"   // is about to be sent
	eventAnswer = "answer" // has ended; a key without one is of unknown outcome
)

// journalVersion changes with what a reader must know.
const journalVersion = 1

// entry is a line of a journal.
type entry struct {
	Event    string    `json:"event"`
	At       time.Time `json:"at"`
	Version  int       `json:"version,omitempty"`
	Tenant   string    `json:"tenant,omitempty"` // fingerprint of the API key
	Key      string    `json:"key,omitempty"`    // idempotency key
	Outcome  string    `json:"outcome,omitempty"`
	ID       string    `json:"id,omitempty"`
	Replayed bool      `json:"replayed,omitempty"`
	Status   int       `json:"status,omitempty"` // of a refusal
	Why      string    `json:"why,omitempty"`
	Attempts int       `json:"attempts,omitempty"` // more than one
	First    string    `json:"first,omitempty"`    // of several attempts, how the first one ended
}

// Journal keeps each idempotency key before its payment is sent, and then what was answered, as lines of JSON at the end of a file. A line is handed to
// the operating system before the request is sent: it survives the client's death by whatever cause, not the machine's. Safe for concurrent use; one
// process at a time. The nil journal keeps nothing.
type Journal struct {
	mu     sync.Mutex
	file   *os.File
	buffer []byte
	err    error // the first one: a journal with a gap must not look like a whole one
}

// OpenJournal opens the file to append to it, and makes it if need be. It is for its owner only: keys find payments.
func OpenJournal(path string) (*Journal, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600) //nolint:gosec // G304: the file is the caller's to name
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j := &Journal{file: file}
	if err := j.endLine(); err != nil {
		return nil, errors.Join(fmt.Errorf("journal: %w", err), file.Close())
	}
	return j, nil
}

// endLine ends a line that a killed client has left.
func (j *Journal) endLine() error {
	info, err := j.file.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	last := make([]byte, 1)
	if _, err := j.file.ReadAt(last, info.Size()-1); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if last[0] != '\n' {
		_, err = j.file.WriteString("\n")
	}
	return err
}

// Close tells also an earlier error.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return errors.Join(j.err, j.file.Close())
}

func (j *Journal) begin() error {
	return j.write(func(b []byte) []byte {
		return strconv.AppendInt(append(b, `,"version":`...), journalVersion, 10)
	}, eventBegin)
}

// sent keeps the key of a payment that is sent after it returns without an error, and not at all otherwise.
func (j *Journal) sent(tenant, key string) error {
	if j == nil {
		return nil
	}
	return j.write(func(b []byte) []byte {
		return appendMember(appendMember(b, "tenant", tenant), "key", key)
	}, eventSent)
}

// answered keeps what became of it, and how its first attempt ended if there were more.
func (j *Journal) answered(key string, p posted, t trail, err error) error {
	if j == nil {
		return nil
	}
	return j.write(func(b []byte) []byte {
		b = appendMember(b, "key", key)
		if t.attempts > 1 {
			b = strconv.AppendInt(append(b, `,"attempts":`...), int64(t.attempts), 10)
			b = appendMember(b, "first", t.answers[0])
		}
		if err == nil {
			b = appendMember(appendMember(b, "outcome", outcomeTaken), "id", p.id)
			if p.replayed {
				b = append(b, `,"replayed":true`...)
			}
			return b
		}
		outcome, status := outcomeOf(err)
		b = appendMember(appendMember(b, "outcome", outcome), "why", printable(err.Error()))
		if status > 0 {
			b = strconv.AppendInt(append(b, `,"status":`...), int64(status), 10)
		}
		return b
	}, eventAnswer)
}

// outcomeOf names what the error of a create means; the status is that of a refusal.
func outcomeOf(err error) (outcome string, status int) {
	if _, lost := errors.AsType[*UnknownError](err); lost {
		return outcomeUnknown, 0
	}
	if p, ok := errors.AsType[*Problem](err); ok {
		return outcomeRefused, p.Status
	}
	return outcomeNotSent, 0
}

// write appends one line by one call, so that a kill leaves at most one line half-written.
func (j *Journal) write(members func([]byte) []byte, event string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	b := append(j.buffer[:0], `{"event":"`...)
	b = append(append(b, event...), `","at":"`...)
	b = append(time.Now().UTC().AppendFormat(b, time.RFC3339Nano), '"')
	j.buffer = append(members(b), "}\n"...)
	if _, err := j.file.Write(j.buffer); err != nil {
		j.err = fmt.Errorf("journal: %w", err)
	}
	return j.err
}

// appendMember takes text that is UTF-8: fingerprints, keys, ids, and what printable has been over.
func appendMember(b []byte, name, value string) []byte {
	b = append(append(append(b, `,"`...), name...), `":`...)
	b, _ = jsontext.AppendQuote(b, value) // in text that is not, wrong bytes are replaced, which is what a journal needs
	return b
}

// decodeEntry knows its own lines only.
func decodeEntry(line []byte) (entry, error) {
	var e entry
	if err := json.Unmarshal(line, &e); err != nil {
		return entry{}, err
	}
	switch e.Event {
	case eventBegin:
		if e.Version != journalVersion {
			return entry{}, fmt.Errorf("version %d is not known here", e.Version)
		}
	case eventSent, eventAnswer:
		if e.Key == "" {
			return entry{}, errors.New("no key")
		}
	default:
		return entry{}, fmt.Errorf("event %q is not known here", e.Event)
	}
	return e, nil
}
