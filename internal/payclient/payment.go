package payclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// statusCreated is the one status that is expected to change by itself soon.
const statusCreated = "created"

// keyMax is the contract's bound for an idempotency key.
const keyMax = 255

// holdMax is the longest that the contract lets an answer be held.
const holdMax = 30 * time.Second

// Party is a person or company.
type Party struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Account is where money is paid from or to.
type Account struct {
	Type   string `json:"type"`
	Number string `json:"number"`
}

// Request is what Create sends. Amount is in minor units: cents of a euro, but whole yen.
type Request struct {
	Amount      int64   `json:"amount"`
	Currency    string  `json:"currency"`
	Originator  Party   `json:"originator"`
	Beneficiary Party   `json:"beneficiary"`
	Sender      Account `json:"sender"`
	Receiver    Account `json:"receiver"`
	Reference   string  `json:"reference,omitempty"`
}

// Payment is a payment as the service tells it.
type Payment struct {
	ID          string    `json:"id"`
	Status      string    `json:"status"`
	Final       bool      `json:"final"`
	Amount      int64     `json:"amount"`
	Currency    string    `json:"currency"`
	Originator  Party     `json:"originator"`
	Beneficiary Party     `json:"beneficiary"`
	Sender      Account   `json:"sender"`
	Receiver    Account   `json:"receiver"`
	Reference   string    `json:"reference,omitempty"`
	CreatedAt   time.Time `json:"created_at"`
	SentAt      time.Time `json:"sent_at,omitzero"`
	Position    *Position `json:"position,omitempty"`
}

// Sent tells whether the payment has left `created`: it is in the topic, whatever became of it later.
func (p Payment) Sent() bool { return p.Status != "" && p.Status != statusCreated }

// Position is where in Kafka a sent payment is.
type Position struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

// Answer is what Create came back with. Key, Attempts and Took are told on errors too.
type Answer struct {
	Payment
	Key      string        // the idempotency key that was sent
	Replayed bool          // the service knew the key already: an earlier attempt, or an earlier call, made the payment
	Attempts int           // requests sent or tried
	Took     time.Duration // from the first attempt to the answer, pauses included
}

// Create makes a payment, or finds that this key has already made it: with the same key it may be called again
// after any error, also by another process. An error is a *Problem (refused: there is no payment), an
// *UnknownError (look the key up, or call again with it), or says that no server could be reached.
func (c *Client) Create(ctx context.Context, key string, r Request) (Answer, error) {
	a, _, err := c.create(ctx, key, r, 0)
	return a, err
}

// CreateAndWait is Create, and asks the service to hold its response until the payment is sent, for
// at most wait and 30 s. A payment that is not sent by then comes back without an error, as
// `created`.
func (c *Client) CreateAndWait(ctx context.Context, key string, r Request, wait time.Duration) (Answer, error) {
	a, _, err := c.create(ctx, key, r, wait)
	return a, err
}

func (c *Client) create(ctx context.Context, key string, r Request, wait time.Duration) (Answer, trail, error) {
	a := Answer{Key: key}
	if err := checkKey(key); err != nil {
		return a, trail{}, err
	}
	body, err := appendRequest(nil, r)
	if err != nil {
		return a, trail{}, err
	}
	start := time.Now()
	got, t, err := c.call(ctx, exchange{
		method: http.MethodPost, path: "/payments", key: key, body: body, hold: holdSeconds(wait), want: http.StatusAccepted,
	})
	a.Took, a.Attempts = time.Since(start), t.attempts
	if err == nil {
		a.Payment, err = decodePayment(got)
		t.arrived = true
	}
	if err != nil {
		return a, t, creationError(key, t, err)
	}
	a.Replayed = got.replayed()
	return a, t, nil
}

// Get reads a payment. With a wait it asks the service to hold its answer (Prefer: wait) and asks again until the
// payment is sent or the wait is over; then the payment comes back as it is, still `created`, without an error.
func (c *Client) Get(ctx context.Context, id string, wait time.Duration) (Payment, error) {
	p, _, err := c.get(ctx, id, wait)
	return p, err
}

func (c *Client) get(ctx context.Context, id string, wait time.Duration) (Payment, trail, error) {
	if id == "" {
		return Payment{}, trail{}, errors.New("an empty payment id")
	}
	var sum trail
	until := time.Now().Add(wait)
	for {
		hold, asked := holdSeconds(time.Until(until)), time.Now()
		p, held, t, err := c.read(ctx, "/payments/"+url.PathEscape(id), hold)
		sum.add(t)
		if err != nil {
			return p, sum, fmt.Errorf("payment %s: %w", printable(id), err)
		}
		if p.Sent() || time.Until(until) <= 0 {
			return p, sum, nil
		}
		// A service that does not hold, or lets go early as when it stops, must not be asked in a tight loop.
		if !held || time.Since(asked) < hold/2 {
			if err := sleep(ctx, min(time.Until(until), time.Second)); err != nil {
				return p, sum, fmt.Errorf("payment %s: %w", printable(id), err)
			}
		}
	}
}

// FindByKey finds the payment that an idempotency key has made: the way out of an *UnknownError. A *Problem with
// code not_found says that, until now, there is none.
func (c *Client) FindByKey(ctx context.Context, key string) (Payment, error) {
	if err := checkKey(key); err != nil {
		return Payment{}, err
	}
	p, _, _, err := c.read(ctx, "/payments?"+url.Values{"idempotency_key": {key}}.Encode(), 0)
	if err != nil {
		return p, fmt.Errorf("payment of idempotency key %s: %w", key, err)
	}
	return p, nil
}

// read is one GET with its retries; held tells whether the service honoured the wish to wait.
func (c *Client) read(ctx context.Context, path string, hold time.Duration) (p Payment, held bool, t trail, err error) {
	got, t, err := c.call(ctx, exchange{method: http.MethodGet, path: path, hold: hold, want: http.StatusOK})
	if err != nil {
		return Payment{}, false, t, err
	}
	p, err = decodePayment(got)
	return p, got.header.Get("Preference-Applied") != "", t, err
}

// decodePayment ignores members that it does not know, so that a newer service may tell more.
func decodePayment(a answer) (Payment, error) {
	var p Payment
	if err := json.Unmarshal(a.body, &p); err != nil {
		return Payment{}, &strangeAnswerError{status: a.status, why: "its body is no payment: " + err.Error()}
	}
	if p.ID == "" || p.Status == "" {
		return Payment{}, &strangeAnswerError{status: a.status, why: "its body has no id or no status"}
	}
	return p, nil
}

// checkKey refuses here what could not be sent as a header, or would be refused by any server.
func checkKey(key string) error {
	if key == "" || len(key) > keyMax || !visibleASCII(key) {
		return errors.New("an idempotency key is 1 to " + strconv.Itoa(keyMax) + " visible ASCII characters")
	}
	return nil
}

// holdSeconds rounds up to the whole seconds that RFC 7240 knows.
func holdSeconds(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return min((d + time.Second - 1).Truncate(time.Second), holdMax)
}
