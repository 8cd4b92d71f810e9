package payment

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNotFound is returned if the tenant has no such payment. It does not say whether another tenant
// has one.
var ErrNotFound = errors.New("payment not found")

// ErrUnauthorized is returned if a credential is no API key, or one that is unknown or revoked.
var ErrUnauthorized = errors.New("not a live API key")

// ErrUnavailable is returned if a dependency is away or full. The operation was not carried out, or
// its outcome is unknown and the same request finds it. A retry is always safe. ErrUnavailable
// never means "refused".
var ErrUnavailable = errors.New("temporarily unavailable")

// ErrNoSchema and ErrNoTopic are kinds of ErrUnavailable that last until an operator acts.
var (
	ErrNoSchema = fmt.Errorf("%w: the database has no schema, or one that is older than this program", ErrUnavailable)
	ErrNoTopic  = fmt.Errorf("%w: the topic is not set up", ErrUnavailable)
)

// Fault is one fault in the content of a payment.
type Fault struct {
	// Pointer is the JSON pointer of the member (RFC 6901).
	Pointer string
	// Code is for programs: required, type, integer, range, unknown, length, characters, format,
	// iban_….
	Code string
	// Detail is for people. It never contains the value.
	Detail string
}

// InvalidError is returned if the content of a payment is invalid. It has all faults.
type InvalidError struct{ Faults []Fault }

func (e *InvalidError) Error() string {
	var b strings.Builder
	b.WriteString("invalid payment")
	for _, f := range e.Faults {
		b.WriteString("; " + f.Pointer + ": " + f.Detail)
	}
	return b.String()
}

// KeyReusedError is returned if the tenant has another payment under the same idempotency key.
type KeyReusedError struct {
	// ID is the id of the payment that is stored.
	ID ID
	// Differs lists the JSON pointers of the members that differ. It never contains values.
	Differs []string
}

func (e *KeyReusedError) Error() string {
	return "idempotency key reused with other content: " + strings.Join(e.Differs, ", ")
}

// faults collects the faults of all fields.
type faults []Fault

func (f *faults) add(pointer, code, detail string) {
	*f = append(*f, Fault{Pointer: pointer, Code: code, Detail: detail})
}
