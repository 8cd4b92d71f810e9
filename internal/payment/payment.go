// Package payment defines a payment: its identity, money, parties, accounts and status, the rules
// for valid content, and the errors of all packages. It does no I/O and imports no other package of
// this module.
//
// New is the only way to create a Payment. It normalizes the content and reports all faults
// together. Rows of the database were created by New, and are not checked again. So a rule can
// become stricter without making old rows unreadable.
package payment

import (
	"fmt"
	"io"
	"time"
)

// Payment is a payment as it is stored, emitted and returned to clients.
type Payment struct {
	ID     ID
	Tenant TenantRef
	Money  Money
	// Originator orders the payment (ISO 20022: ultimate debtor).
	Originator Party
	// Beneficiary is to receive the money (ISO 20022: ultimate creditor).
	Beneficiary Party
	// Sender is the account that is debited (ISO 20022: debtor account).
	Sender Account
	// Receiver is the account that is credited (ISO 20022: creditor account).
	Receiver Account
	// Reference is empty if there is none.
	Reference string

	// TraceParent is the W3C trace context of the request that created the payment, or empty. It is
	// not part of the content: a retry from another trace is the same payment.
	TraceParent TraceParent

	// PartitionHash selects the Kafka partition; see HashSender.
	PartitionHash uint64

	// The database sets the fields below.

	// Partition is the Kafka partition. It is fixed when the payment is created.
	Partition int32
	// Seq is the order of emission within the partition.
	Seq       int64
	Status    Status
	CreatedAt time.Time
	// Emission is nil until the payment is sent.
	Emission *Emission
}

// Format implements fmt.Formatter; see Party.
func (p Payment) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, "payment "+p.ID.String()) }

// Emission is when and where a payment was emitted. The partition is that of the payment.
type Emission struct {
	At     time.Time
	Topic  string
	Offset int64
}

// Content is the content of a payment as a client sent it. New normalizes and checks it.
type Content struct {
	// Amount is the JSON number as it was written, in minor units.
	Amount      string
	Currency    string
	Originator  PartyContent
	Beneficiary PartyContent
	Sender      AccountContent
	Receiver    AccountContent
	// Reference is nil if the member is absent.
	Reference *string
}

// PartyContent is a party as a client sent it.
type PartyContent struct{ ID, Name string }

// AccountContent is an account as a client sent it.
type AccountContent struct{ Type, Number string }

// New returns the payment of tenant t with this key and content. The same arguments always give the
// same payment, at any time and on any replica. The error is an *InvalidError with all faults, in
// the order of the members in the contract.
func New(t Tenant, key Key, c Content) (Payment, error) {
	var f faults
	p := Payment{
		ID:          DeriveID(t.Salt, key),
		Tenant:      t.TenantRef,
		Money:       f.money(c.Amount, c.Currency),
		Originator:  f.party("/originator/id", "/originator/name", c.Originator),
		Beneficiary: f.party("/beneficiary/id", "/beneficiary/name", c.Beneficiary),
		Sender:      f.account("/sender/type", "/sender/number", c.Sender),
		Receiver:    f.account("/receiver/type", "/receiver/number", c.Receiver),
		Reference:   f.reference(c.Reference),
		Status:      StatusCreated,
	}
	if len(f) > 0 {
		return Payment{}, &InvalidError{Faults: f}
	}
	p.PartitionHash = HashSender(t.Name, p.Sender)
	return p, nil
}

// Differences returns the JSON pointers of the members in which the contents of p and q differ.
func (p Payment) Differences(q Payment) []string {
	var pointers []string
	differ := func(pointer string, differs bool) {
		if differs {
			pointers = append(pointers, pointer)
		}
	}
	differ("/amount", p.Money.Minor != q.Money.Minor)
	differ("/currency", p.Money.Currency != q.Money.Currency)
	differ("/originator/id", p.Originator.ID != q.Originator.ID)
	differ("/originator/name", p.Originator.Name != q.Originator.Name)
	differ("/beneficiary/id", p.Beneficiary.ID != q.Beneficiary.ID)
	differ("/beneficiary/name", p.Beneficiary.Name != q.Beneficiary.Name)
	differ("/sender/type", p.Sender.Type != q.Sender.Type)
	differ("/sender/number", p.Sender.Number != q.Sender.Number)
	differ("/receiver/type", p.Receiver.Type != q.Receiver.Type)
	differ("/receiver/number", p.Receiver.Number != q.Receiver.Number)
	differ("/reference", p.Reference != q.Reference)
	return pointers
}
