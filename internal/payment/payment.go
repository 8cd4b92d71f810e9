// Package payment says what a payment is: its identity, money, parties, accounts and status, which content is valid, and what can
// go wrong with it. It does no I/O and imports no other room; every other room may import it.
//
// A Payment is made in one way only, by New, which brings the content into its normal form and refuses it otherwise with all faults
// at once. What comes back from the database was once made by New and is trusted: rules may become stricter without making old rows
// unreadable.
package payment

import (
	"fmt"
	"io"
	"time"
)

// Payment is one payment, as it is stored, emitted and answered.
type Payment struct {
	ID          ID
	Tenant      TenantRef
	Money       Money
	Originator  Party   // Who orders the payment (ISO 20022: ultimate debtor).
	Beneficiary Party   // Who is to have the money (ISO 20022: ultimate creditor).
	Sender      Account // The account paid from (ISO 20022: debtor account).
	Receiver    Account // The account paid to (ISO 20022: creditor account).
	Reference   string  // Empty when there is none.

	// TraceParent is the W3C trace context of the request that created the payment, or empty. It is no part of the content: a retry
	// from another trace is still the same payment.
	TraceParent TraceParent

	// PartitionHash picks the Kafka partition; see HashSender.
	PartitionHash uint64

	// The fields below are given by the database.

	Partition int32 // The Kafka partition, fixed at creation.
	Seq       int64 // The order of emission within the partition.
	Status    Status
	CreatedAt time.Time
	Sent      *Emission // Nil until the payment is sent.
}

// Format implements fmt.Formatter; see Party.
func (p Payment) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, "payment "+p.ID.String()) }

// Emission says when and where a payment was emitted. The partition is the payment's own.
type Emission struct {
	At     time.Time
	Topic  string
	Offset int64
}

// Content is what a client asks for, as it wrote it: New normalises and checks it.
type Content struct {
	Amount      string // The JSON number literal, in minor units.
	Currency    string
	Originator  PartyContent
	Beneficiary PartyContent
	Sender      AccountContent
	Receiver    AccountContent
	Reference   *string // Nil when the member is absent.
}

// PartyContent is a party as a client wrote it.
type PartyContent struct{ ID, Name string }

// AccountContent is an account as a client wrote it.
type AccountContent struct{ Type, Number string }

// New makes the payment that tenant t asks for under key. The same tenant, key and content always make the same payment, at any time
// and on any replica. The error is an *Invalid with every fault, in the order of the contract's fields.
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
		Status:      Created,
	}
	if len(f) > 0 {
		return Payment{}, &Invalid{Faults: f}
	}
	p.PartitionHash = HashSender(t.Name, p.Sender)
	return p, nil
}

// Differences names, as JSON pointers, the content fields in which p and q differ: what a reused key is refused with.
func (p Payment) Differences(q Payment) []string {
	var pointers []string
	differ := func(pointer string, yes bool) {
		if yes {
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
