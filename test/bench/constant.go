//go:build linux

package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paylatch/paylatch/internal/api"
	"github.com/paylatch/paylatch/internal/payment"
)

// constant is a Store that has one tenant and one payment, in memory. With it the response of our
// server is constant.
type constant struct {
	tenant  payment.Tenant
	payment payment.Payment
}

var _ api.Store = (*constant)(nil)

func (c *constant) Authenticate(context.Context, payment.APIKeyHash) (payment.Access, error) {
	return payment.Access{Tenant: c.tenant, Scopes: payment.AllScopes}, nil
}

func (c *constant) Create(context.Context, payment.Payment) (payment.Payment, bool, error) {
	return c.payment, false, nil
}

func (c *constant) Find(context.Context, payment.TenantRef, payment.ID) (payment.Payment, error) {
	return c.payment, nil
}

func (c *constant) Look(context.Context, payment.TenantRef, payment.ID) (payment.Payment, error) {
	return c.payment, nil
}

func (c *constant) FindDerived(context.Context, payment.TenantRef, payment.ID) (payment.Payment, error) {
	return c.payment, nil
}

func (c *constant) Ready(context.Context) ([]int32, error) { return nil, nil }

// serveConstant plays the role: the server of `paylatch api`, with its routes, its authentication
// and all else, over the constant Store.
func serveConstant(ctx context.Context, _ job, report func(any) error) error {
	t := payment.Tenant{TenantRef: payment.TenantRef{ID: 1, Name: tenant}}
	key, err := payment.ParseKey("constant")
	if err != nil {
		return err
	}
	p, err := payment.New(t, key, constantContent())
	if err != nil {
		return err
	}
	at := time.Now()
	p.Status, p.CreatedAt = payment.StatusSent, at
	p.Emission = &payment.Emission{At: at, Topic: "payments", Offset: 123_456}
	logger := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := report(l.Addr().String()); err != nil { // The listener queues requests until Serve accepts them.
		return err
	}
	metrics := api.NewMetrics(prometheus.NewRegistry())
	return api.New(&constant{t, p}, api.Config{}, logger, metrics).Serve(ctx, l, time.Second)
}

func constantContent() payment.Content {
	var c payment.Content
	c.Amount, c.Currency = amountGap, "EUR"
	c.Originator.ID, c.Originator.Name = party(0)
	c.Beneficiary.ID, c.Beneficiary.Name = party(people / 2)
	c.Sender.Type, c.Sender.Number = account(0)
	c.Receiver.Type, c.Receiver.Number = account(people / 2)
	reference := "INV-" + numberGap
	c.Reference = &reference
	return c
}
