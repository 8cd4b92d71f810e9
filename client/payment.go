package client

import (
	"encoding/json"
	"errors"
	"time"
	"unicode/utf8"
)

// Statuses of a payment. A newer service may have more of them.
const (
	// StatusCreated is the status of a payment that is stored and will be sent.
	StatusCreated = "created"
	// StatusSent is the status of a payment that is in the topic.
	StatusSent = "sent"
)

// Party is a person or a company.
type Party struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Account is where money is paid from or to.
type Account struct {
	// Type is the kind of account, such as iban or checking.
	Type string `json:"type"`
	// Number is the account number in the form that its type has.
	Number string `json:"number"`
}

// Request is a payment to be created.
type Request struct {
	// Amount is in minor units: cents of a euro, whole yen.
	Amount int64 `json:"amount"`
	// Currency is an ISO 4217 code, such as USD.
	Currency    string  `json:"currency"`
	Originator  Party   `json:"originator"`
	Beneficiary Party   `json:"beneficiary"`
	Sender      Account `json:"sender"`
	Receiver    Account `json:"receiver"`
	// Reference is optional.
	Reference string `json:"reference,omitempty"`
}

// Payment is a payment as the service has it.
type Payment struct {
	ID string `json:"id"`
	// Status is one of the constants above, or one that a newer service has.
	Status string `json:"status"`
	// Final reports that the status will not change any more.
	Final       bool      `json:"final"`
	Amount      int64     `json:"amount"`
	Currency    string    `json:"currency"`
	Originator  Party     `json:"originator"`
	Beneficiary Party     `json:"beneficiary"`
	Sender      Account   `json:"sender"`
	Receiver    Account   `json:"receiver"`
	Reference   string    `json:"reference,omitempty"`
	CreatedAt   time.Time `json:"created_at"`
	// SentAt is the zero time while the payment is not sent.
	SentAt time.Time `json:"sent_at,omitzero"`
	// Position is nil while the payment is not sent, and if the service does not show it.
	Position *Position `json:"position,omitempty"`
}

// Position is the place of a sent payment in Kafka. A service shows it only if its operator has
// decided so.
type Position struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

// Sent reports whether the payment has left the status created: it is in the topic.
func (p Payment) Sent() bool { return p.Status != "" && p.Status != StatusCreated }

// encode returns the body of a create. Text that is not UTF-8 is an error: encoding/json would
// replace it, and the service would store another text.
func (r *Request) encode() ([]byte, error) {
	for _, text := range []string{
		r.Currency, r.Originator.ID, r.Originator.Name, r.Beneficiary.ID, r.Beneficiary.Name,
		r.Sender.Type, r.Sender.Number, r.Receiver.Type, r.Receiver.Number, r.Reference,
	} {
		if !utf8.ValidString(text) {
			return nil, errors.New("encode the payment: a text is not UTF-8")
		}
	}
	return json.Marshal(r)
}

// decodePayment ignores members that it does not know: a newer service may have more.
func decodePayment(r response) (Payment, error) {
	var p Payment
	if err := json.Unmarshal(r.body, &p); err != nil {
		reason := "the body is not a payment: " + printable(err.Error())
		return Payment{}, &ResponseError{Status: r.status, Reason: reason}
	}
	if p.ID == "" || p.Status == "" {
		return Payment{}, &ResponseError{Status: r.status, Reason: "the body has no id or no status"}
	}
	// So that they can be printed as they are.
	if !visibleASCII(p.ID) || !visibleASCII(p.Status) || p.Position != nil && !visibleASCII(p.Position.Topic) {
		return Payment{}, &ResponseError{Status: r.status, Reason: "id, status or topic is not visible ASCII"}
	}
	return p, nil
}
