package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/paylatch/paylatch/internal/sleep"
)

// Get returns a payment as it is now.
//
// The error wraps a [*ProblemError] with Code [CodeNotFound] if there is no such payment.
func (c *Client) Get(ctx context.Context, id string) (Payment, error) {
	p, _, err := c.get(ctx, id, 0)
	return p, err
}

// Wait returns a payment once it is sent. If that takes longer than wait, it returns the payment as
// it is then, without an error; its status is created.
func (c *Client) Wait(ctx context.Context, id string, wait time.Duration) (Payment, error) {
	end := time.Now().Add(wait)
	for {
		hold, began := holdTime(time.Until(end)), time.Now()
		p, held, err := c.get(ctx, id, hold)
		if err != nil || p.Sent() || time.Until(end) <= 0 {
			return p, err
		}
		// A service that does not hold, or lets go early because it stops, must not be called in a
		// tight loop.
		if held && time.Since(began) >= hold/2 {
			continue
		}
		if err := sleep.For(ctx, min(time.Until(end), time.Second)); err != nil {
			return p, fmt.Errorf("payment %s: %w", printable(id), err)
		}
	}
}

// get reports with held whether the service has waited.
func (c *Client) get(ctx context.Context, id string, hold time.Duration) (p Payment, held bool, err error) {
	if id == "" {
		return Payment{}, false, errors.New("the payment id is empty")
	}
	p, held, err = c.read(ctx, "/payments/"+url.PathEscape(id), hold)
	if err != nil {
		return p, held, fmt.Errorf("payment %s: %w", printable(id), err)
	}
	return p, held, nil
}

// FindByKey returns the payment that an idempotency key has made. Use it after an [UnknownError].
//
// The error wraps a [*ProblemError] with Code [CodeNotFound] if there is none so far. A request
// that is still on its way may make it later; the same Create settles that.
func (c *Client) FindByKey(ctx context.Context, key string) (Payment, error) {
	if err := checkIdempotencyKey(key); err != nil {
		return Payment{}, err
	}
	p, _, err := c.read(ctx, "/payments?"+url.Values{"idempotency_key": {key}}.Encode(), 0)
	if err != nil {
		return p, fmt.Errorf("payment of idempotency key %s: %w", key, err)
	}
	return p, nil
}

// read calls GET with retries.
func (c *Client) read(ctx context.Context, path string, hold time.Duration) (p Payment, held bool, err error) {
	got, _, err := c.call(ctx, request{method: http.MethodGet, path: path, hold: hold, success: http.StatusOK})
	if err != nil {
		return Payment{}, false, err
	}
	p, err = decodePayment(got)
	return p, got.header.Get("Preference-Applied") != "", err
}
