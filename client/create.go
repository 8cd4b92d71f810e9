package client

import (
	"context"
	"net/http"
	"time"
)

// Result is the outcome of a create. Key, Attempts and Took are set on errors too.
type Result struct {
	Payment
	// Key is the idempotency key that was sent.
	Key string
	// Replayed reports that an earlier request with this key had made the payment.
	Replayed bool
	// Attempts counts the requests that were sent or tried.
	Attempts int
	// Took is the time from the first attempt to the response, pauses included.
	Took time.Duration
}

// Create makes a payment, or finds the one that this key has made. It can be called again with the
// same key and content after any error, also by another process.
//
// The error is a [*ProblemError] if the service refused the payment, a [*NotSentError] if no server
// was reached, and an [*UnknownError] if there may be a payment.
func (c *Client) Create(ctx context.Context, key string, r Request) (Result, error) {
	return c.CreateAndWait(ctx, key, r, 0)
}

// CreateAndWait is Create, with a request to hold the response until the payment is sent. The
// service waits for at most wait, rounded up to seconds, and at most 30 s. A payment that is not
// sent by then is returned without an error; its status is created.
func (c *Client) CreateAndWait(ctx context.Context, key string, r Request, wait time.Duration) (Result, error) {
	result := Result{Key: key}
	if err := checkIdempotencyKey(key); err != nil {
		return result, err
	}
	body, err := r.encode()
	if err != nil {
		return result, err
	}
	start := time.Now()
	got, log, err := c.call(ctx, request{
		method: http.MethodPost, path: "/payments", key: key, body: body, hold: holdTime(wait),
		success: http.StatusAccepted,
	})
	result.Took, result.Attempts = time.Since(start), log.attempts
	if err == nil {
		log.mayHaveArrived = true
		result.Payment, err = decodePayment(got)
	}
	if err != nil {
		return result, createError(key, log, err)
	}
	result.Replayed = got.header.Get("Idempotent-Replayed") == "true"
	return result, nil
}

// holdMax is the longest time for which the API lets a response be held.
const holdMax = 30 * time.Second

// holdTime rounds up to whole seconds, which is what Prefer knows (RFC 7240, section 4.3).
func holdTime(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return min((d + time.Second - 1).Truncate(time.Second), holdMax)
}
