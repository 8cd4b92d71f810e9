// Package journal records what a client sent and which responses it received, and audits an
// installation against that record.
//
// A [Journal] is a file of JSON lines. It has each idempotency key before its payment is sent, and
// then the outcome. [Audit] compares it with the service and with the topic. It knows the HTTP API
// and the topic only, and shares no code with the service.
package journal

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

	"github.com/paylatch/paylatch/client"
)

// Outcomes of a create, as the journal has them.
const (
	// outcomeTaken is a 202, or a 200 with the payment: it is on record and will be sent.
	outcomeTaken = "taken"
	// outcomeRefused is a 4xx when no earlier attempt may have arrived: there is no payment.
	outcomeRefused = "refused"
	// outcomeNotSent means that no server was reached: there is no payment.
	outcomeNotSent = "not_sent"
	// outcomeUnknown means that there may be a payment. Audit finds out.
	outcomeUnknown = "unknown"
)

// Events of a journal. Each run begins with a line of its own. So a line that a killed client left
// incomplete can only be the last one of its run: before a begin, or at the end of the file.
const (
	eventBegin = "begin"
	// eventSent comes before the first request.
	eventSent = "sent"
	// eventAnswer comes after the last response. A key without one is of unknown outcome.
	eventAnswer = "answer"
)

const (
	// version changes with what a reader must know.
	version = 1
	// reasonCharsMax bounds the text of an error.
	reasonCharsMax = 1000
)

// line is one line of a journal.
type line struct {
	Event    string    `json:"event"`
	At       time.Time `json:"at"`
	Version  int       `json:"version,omitempty"`
	Tenant   string    `json:"tenant,omitempty"` // The fingerprint of the API key.
	Key      string    `json:"key,omitempty"`    // The idempotency key.
	Outcome  string    `json:"outcome,omitempty"`
	ID       string    `json:"id,omitempty"`
	Replayed bool      `json:"replayed,omitempty"`
	Status   int       `json:"status,omitempty"` // Of a refusal.
	Why      string    `json:"why,omitempty"`
	Attempts int       `json:"attempts,omitempty"` // If there was more than one.
	First    string    `json:"first,omitempty"`    // The outcome of the first of several attempts.
}

// Outcome is how a create ended.
type Outcome struct {
	// ID is the payment's, if Err is nil.
	ID string
	// Replayed reports that an earlier request had made the payment.
	Replayed bool
	Attempts int
	// First is the outcome of the first attempt.
	First string
	// Err is that of [client.Client.Create].
	Err error
}

// Journal appends to a file. Each line is handed to the operating system before the request is
// sent: it survives the death of the client, but not that of the machine. Journal is safe for
// concurrent use by one process. A nil Journal records nothing.
type Journal struct {
	mu     sync.Mutex
	file   *os.File
	buffer []byte
	// err is the first error. A journal with a gap must not look like a whole one.
	err error
}

// Open opens a file to append to it, and creates it if needed. Only its owner can read it: keys
// find payments.
func Open(path string) (*Journal, error) {
	//nolint:gosec // G304: the caller names the file.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j := &Journal{file: file}
	if err := j.endLine(); err != nil {
		return nil, errors.Join(fmt.Errorf("journal: %w", err), file.Close())
	}
	return j, nil
}

// endLine ends a line that a killed client left incomplete.
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

// Close closes the file. It also returns the first error of an earlier write.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return errors.Join(j.err, j.file.Close())
}

// Begin begins a run. It is called once, before Sent.
func (j *Journal) Begin() error {
	if j == nil {
		return nil
	}
	return j.write(eventBegin, func(b []byte) []byte {
		return strconv.AppendInt(append(b, `,"version":`...), version, 10)
	})
}

// Sent records a key before its payment is sent. After an error the payment must not be sent.
func (j *Journal) Sent(tenant, key string) error {
	if j == nil {
		return nil
	}
	return j.write(eventSent, func(b []byte) []byte {
		return appendMember(appendMember(b, "tenant", tenant), "key", key)
	})
}

// Ended records the outcome of a key.
func (j *Journal) Ended(key string, o Outcome) error {
	if j == nil {
		return nil
	}
	return j.write(eventAnswer, func(b []byte) []byte {
		b = appendMember(b, "key", key)
		if o.Attempts > 1 {
			b = strconv.AppendInt(append(b, `,"attempts":`...), int64(o.Attempts), 10)
			b = appendMember(b, "first", o.First)
		}
		if o.Err != nil {
			return appendError(b, o.Err)
		}
		b = appendMember(appendMember(b, "outcome", outcomeTaken), "id", o.ID)
		if o.Replayed {
			b = append(b, `,"replayed":true`...)
		}
		return b
	})
}

func appendError(b []byte, err error) []byte {
	outcome, status := outcomeOf(err)
	reason := []rune(err.Error())
	b = appendMember(appendMember(b, "outcome", outcome), "why", string(reason[:min(len(reason), reasonCharsMax)]))
	if status > 0 {
		b = strconv.AppendInt(append(b, `,"status":`...), int64(status), 10)
	}
	return b
}

// outcomeOf returns what the error of a create means, and the status of a refusal.
func outcomeOf(err error) (outcome string, status int) {
	if _, unknown := errors.AsType[*client.UnknownError](err); unknown {
		return outcomeUnknown, 0
	}
	if p, ok := errors.AsType[*client.ProblemError](err); ok {
		return outcomeRefused, p.Status
	}
	return outcomeNotSent, 0
}

// write appends a line by one call, so that a kill leaves at most one line incomplete.
func (j *Journal) write(event string, members func([]byte) []byte) error {
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

// appendMember replaces what is not UTF-8.
func appendMember(b []byte, name, value string) []byte {
	b = append(append(append(b, `,"`...), name...), `":`...)
	b, _ = jsontext.AppendQuote(b, value) // The error means that bytes were replaced.
	return b
}

// decodeLine accepts the lines of this version only.
func decodeLine(text []byte) (line, error) {
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return line{}, err
	}
	switch l.Event {
	case eventBegin:
		if l.Version != version {
			return line{}, fmt.Errorf("version %d is not supported", l.Version)
		}
	case eventSent, eventAnswer:
		if l.Key == "" {
			return line{}, errors.New("no key")
		}
	default:
		return line{}, fmt.Errorf("event %q is not supported", l.Event)
	}
	return l, nil
}
