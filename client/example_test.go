package client_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"time"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/client/clienttest"
)

// The examples call a server that keeps payments in memory. Yours would be a replica of Paylatch.
func exampleServer(faults ...clienttest.Fault) *httptest.Server {
	return httptest.NewServer(clienttest.New().Handler(faults...))
}

var invoice = client.Request{
	Amount:      25687, // Cents.
	Currency:    "USD",
	Originator:  client.Party{ID: "C-567", Name: "Emma Parker"},
	Beneficiary: client.Party{ID: "C-123", Name: "Reed Supply Co"},
	Sender:      client.Account{Type: "checking", Number: "765543322"},
	Receiver:    client.Account{Type: "iban", Number: "DE89370400440532013000"},
	Reference:   "INV-000007",
}

func Example() {
	server := exampleServer()
	defer server.Close()

	c, err := client.New(client.Config{Servers: []string{server.URL}, APIKey: "pl_example"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	key, err := client.NewKey()
	if err != nil {
		fmt.Println(err)
		return
	}
	// Store the key with your order here: after a crash, create again with the same key.
	created, err := c.Create(context.Background(), key, invoice)
	if err != nil {
		fmt.Println(err)
		return
	}
	sent, err := c.Wait(context.Background(), created.ID, 10*time.Second)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(created.Status, "then", sent.Status)
	// Output: created then sent
}

// A response is lost after the payment was stored. The retry carries the same key, so there is
// still one payment.
func ExampleClient_Create() {
	server := exampleServer(clienttest.LoseResponse)
	defer server.Close()

	c, err := client.New(client.Config{Servers: []string{server.URL}, APIKey: "pl_example"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	result, err := c.Create(context.Background(), "order-4711", invoice)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("attempts:", result.Attempts, "replayed:", result.Replayed)
	// Output: attempts: 2 replayed: true
}

// From each kind of error you know whether there is a payment.
func ExampleClient_Create_errors() {
	server := exampleServer(
		clienttest.Respond(422, "application/problem+json",
			`{"code":"invalid_payment","errors":[{"pointer":"/currency","code":"unknown_currency"}]}`),
		clienttest.LoseResponse,
	)
	defer server.Close()

	c, err := client.New(client.Config{Servers: []string{server.URL}, APIKey: "pl_example", AttemptsMax: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	for _, key := range []string{"order-1", "order-2"} {
		_, err := c.Create(context.Background(), key, invoice)
		var refused *client.ProblemError
		var notSent *client.NotSentError
		var unknown *client.UnknownError
		switch {
		case err == nil:
			fmt.Println(key, "is created")
		case errors.As(err, &unknown): // First: it may wrap a ProblemError.
			p, err := c.FindByKey(context.Background(), unknown.Key)
			fmt.Println(key, "was unknown:", p.Status, err)
		case errors.As(err, &refused):
			fmt.Println(key, "is refused:", refused.Errors[0].Pointer, refused.Errors[0].Code)
		case errors.As(err, &notSent):
			fmt.Println(key, "was not sent")
		}
	}
	// Output:
	// order-1 is refused: /currency unknown_currency
	// order-2 was unknown: created <nil>
}

func ExampleClient_CreateAndWait() {
	server := exampleServer()
	defer server.Close()

	c, err := client.New(client.Config{Servers: []string{server.URL}, APIKey: "pl_example"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	result, err := c.CreateAndWait(context.Background(), "order-4711", invoice, 5*time.Second)
	if err != nil {
		fmt.Println(err)
		return
	}
	if !result.Sent() {
		fmt.Println("stored, and not sent yet")
		return
	}
	fmt.Println("sent at", result.SentAt.Format(time.TimeOnly))
	// Output: sent at 12:00:00
}

func ExampleClient_FindByKey() {
	server := exampleServer()
	defer server.Close()

	c, err := client.New(client.Config{Servers: []string{server.URL}, APIKey: "pl_example"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	_, err = c.FindByKey(context.Background(), "order-4711")
	var problem *client.ProblemError
	if errors.As(err, &problem) && problem.Code == client.CodeNotFound {
		fmt.Println("this key has made no payment")
	}
	// Output: this key has made no payment
}

func ExampleWithObserver() {
	server := exampleServer(clienttest.Unavailable, clienttest.LoseRequest)
	defer server.Close()

	c, err := client.New(client.Config{Servers: []string{server.URL}, APIKey: "pl_example"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	ctx := client.WithObserver(context.Background(), func(a client.Attempt) {
		fmt.Printf("attempt %d: %s, retry: %v\n", a.Number, a.Outcome(), a.Retry)
	})
	if _, err := c.Create(ctx, "order-4711", invoice); err != nil {
		fmt.Println(err)
	}
	// Output:
	// attempt 1: 503, retry: true
	// attempt 2: connection lost, retry: true
	// attempt 3: 202, retry: false
}

// A service with a certificate of a private authority. A client certificate identifies the tenant,
// so no API key is needed. GetClientCertificate reads the files for each new connection, so that
// they may change.
func ExampleConfig_tLS() {
	authorities, err := os.ReadFile("/etc/ssl/private-ca.pem")
	if err != nil {
		fmt.Println(err)
		return
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authorities)
	c, err := client.New(client.Config{
		Servers: []string{"https://paylatch.example:8443"},
		TLS: &tls.Config{
			RootCAs: roots,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				pair, err := tls.LoadX509KeyPair("/etc/ssl/client.pem", "/etc/ssl/client.key")
				return &pair, err
			},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
}
