package payment

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNotFound says that the tenant has no such payment. Whether another tenant has is not told.
var ErrNotFound = errors.New("payment not found")

// ErrUnauthorized says that a credential is no live API key.
var ErrUnauthorized = errors.New("not a live API key")

// ErrUnavailable says that a part that is needed is away or full. What was asked for did not happen, or is found by the same request
// made again: a retry is always safe. It never means "refused".
var ErrUnavailable = errors.New("temporarily unavailable")

// ErrNoSchema and ErrNoTopic are the cases of ErrUnavailable that last until an operator acts.
var (
	ErrNoSchema = fmt.Errorf("%w: the database has no schema, or one that is older than this program", ErrUnavailable)
	ErrNoTopic  = fmt.Errorf("%w: the topic is not set up", ErrUnavailable)
)

// Fault is one thing wrong with a payment's content.
type Fault struct {
	Pointer string // RFC 6901 JSON pointer of the member.
	Code    string // For programs: required, type, integer, range, unknown, length, characters, format, iban_….
	Detail  string // For people; never holds the value.
}

// Invalid says that the content of a payment is wrong, with every fault.
type Invalid struct{ Faults []Fault }

func (e *Invalid) Error() string {
	var b strings.Builder
	b.WriteString("invalid payment")
	for _, f := range e.Faults {
		b.WriteString("; " + f.Pointer + ": " + f.Detail)
	}
	return b.String()
}

// KeyReused says that the tenant's key already stands for a payment with other content.
type KeyReused struct {
	ID      ID       // The payment that the key stands for.
	Differs []string // JSON pointers of the members that differ, never their values.
}

func (e *KeyReused) Error() string {
	return "idempotency key reused with other content: " + strings.Join(e.Differs, ", ")
}

// faults gathers what is wrong while the checks go on to the next field.
type faults []Fault

func (f *faults) add(pointer, code, detail string) {
	*f = append(*f, Fault{Pointer: pointer, Code: code, Detail: detail})
}
