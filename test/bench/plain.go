//go:build linux

package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"github.com/gorilla/mux"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/paylatch/paylatch/internal/payment"
)

// plain is the service that one writes first: a handler that checks a request as ours does and
// inserts its payment, one statement for each, through a pool.
type plain struct {
	pool     *pgxpool.Pool
	tenants  map[payment.APIKeyHash]payment.Tenant
	parties  map[string]int64 // Known beforehand.
	accounts map[string]int64
}

// servePlain plays the role.
func servePlain(ctx context.Context, j job, report func(any) error) error {
	config, err := pgxpool.ParseConfig(j.URL)
	if err != nil {
		return err
	}
	config.MaxConns = int32(j.Connections)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	h := &plain{
		pool: pool, tenants: map[payment.APIKeyHash]payment.Tenant{}, parties: map[string]int64{},
		accounts: map[string]int64{},
	}
	if err := h.know(ctx, j.APIKey); err != nil {
		return err
	}
	router := mux.NewRouter()
	router.HandleFunc("/payments", h.create).Methods(http.MethodPost)
	return serveUntilEnd(ctx, router, report)
}

// serveUntilEnd serves requests until ctx ends.
func serveUntilEnd(ctx context.Context, h http.Handler, report func(any) error) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 45 * time.Second, IdleTimeout: 2 * time.Minute,
	}
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(l) }()
	if err := report(l.Addr().String()); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return s.Close()
	}
}

// know reads what the handler will need: the tenant behind the key, parties and accounts.
func (h *plain) know(ctx context.Context, apiKey string) error {
	key, err := payment.ParseAPIKey(apiKey)
	if err != nil {
		return err
	}
	var t payment.Tenant
	var salt []byte
	err = h.pool.QueryRow(ctx, `select id, name, salt from tenants where name = $1`, tenant).
		Scan(&t.ID, &t.Name, &salt)
	if err != nil {
		return err
	}
	copy(t.Salt[:], salt)
	h.tenants[key.Hash()] = t
	for sql, into := range map[string]map[string]int64{
		`select id, party_id || ' ' || name from parties`: h.parties,
		`select id, type || ' ' || number from accounts`:  h.accounts,
	} {
		rows, err := h.pool.Query(ctx, sql)
		if err != nil {
			return err
		}
		var id int64
		var content string
		if _, err := pgx.ForEachRow(rows, []any{&id, &content},
			func() error { into[content] = id; return nil }); err != nil {
			return err
		}
	}
	return nil
}

// body is a create, as request and as response.
type body struct {
	ID          string         `json:"id,omitzero"`
	Status      string         `json:"status,omitzero"`
	Amount      jsontext.Value `json:"amount"`
	Currency    string         `json:"currency"`
	Originator  partyBody      `json:"originator"`
	Beneficiary partyBody      `json:"beneficiary"`
	Sender      accountBody    `json:"sender"`
	Receiver    accountBody    `json:"receiver"`
	Reference   *string        `json:"reference,omitzero"`
	CreatedAt   string         `json:"created_at,omitzero"`
}

type partyBody struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type accountBody struct {
	Type   string `json:"type"`
	Number string `json:"number"`
}

const insertAnswered = insertOne + ` on conflict (id) do nothing returning created_at`

var errAuthorization = errors.New("no API key that is known")

// create serves POST /payments.
func (h *plain) create(w http.ResponseWriter, r *http.Request) {
	t, err := h.authenticate(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	p, b, err := read(t, w, r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	var createdAt time.Time
	err = h.pool.QueryRow(r.Context(), insertAnswered, uuid.UUID(p.ID), p.Tenant.ID, p.Money.Minor, p.Money.Currency,
		h.parties[p.Originator.ID+" "+p.Originator.Name.Reveal()],
		h.parties[p.Beneficiary.ID+" "+p.Beneficiary.Name.Reveal()],
		h.accounts[p.Sender.Type+" "+p.Sender.Number.Reveal()],
		h.accounts[p.Receiver.Type+" "+p.Receiver.Number.Reveal()],
		p.Reference, nil, payment.PartitionOf(p.PartitionHash, partitions)).Scan(&createdAt)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	b.ID, b.Status, b.CreatedAt = p.ID.String(), string(p.Status), createdAt.UTC().Format(time.RFC3339Nano)
	text, err := json.Marshal(b)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Location", "/payments/"+b.ID)
	w.WriteHeader(http.StatusAccepted)
	_, _ = w.Write(text)
}

func (h *plain) authenticate(r *http.Request) (payment.Tenant, error) {
	key, err := payment.ParseAPIKey(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	if err != nil {
		return payment.Tenant{}, err
	}
	t, ok := h.tenants[key.Hash()]
	if !ok {
		return payment.Tenant{}, errAuthorization
	}
	return t, nil
}

// read decodes and checks a request by the same rules as ours.
func read(t payment.Tenant, w http.ResponseWriter, r *http.Request) (payment.Payment, body, error) {
	var b body
	key, err := payment.ParseKey(r.Header.Get("Idempotency-Key"))
	if err != nil {
		return payment.Payment{}, b, err
	}
	const bodyMax = 64 << 10
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyMax))
	if err != nil {
		return payment.Payment{}, b, err
	}
	if err := json.Unmarshal(text, &b, json.RejectUnknownMembers(true)); err != nil {
		return payment.Payment{}, b, err
	}
	p, err := payment.New(t, key, payment.Content{
		Amount: string(b.Amount), Currency: b.Currency, Reference: b.Reference,
		Originator: payment.PartyContent(b.Originator), Beneficiary: payment.PartyContent(b.Beneficiary),
		Sender: payment.AccountContent(b.Sender), Receiver: payment.AccountContent(b.Receiver),
	})
	return p, b, err
}
