package payment_test

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
)

// contract holds the JSON pointers of a payment's content in the order of the contract
// (internal/api/openapi.json).
var contract = []string{
	"/amount", "/currency", "/originator/id", "/originator/name", "/beneficiary/id", "/beneficiary/name",
	"/sender/type", "/sender/number", "/receiver/type", "/receiver/number", "/reference",
}

// content returns a valid content, with changes.
func content(changes ...func(*payment.Content)) payment.Content {
	c := payment.Content{
		Amount:      "25687",
		Currency:    "USD",
		Originator:  payment.PartyContent{ID: "567", Name: "Yolanda Quist"},
		Beneficiary: payment.PartyContent{ID: "123", Name: "Xavier Zork"},
		Sender:      payment.AccountContent{Type: "checking", Number: "765543322"},
		Receiver:    payment.AccountContent{Type: "iban", Number: "DE89370400440532013000"},
		Reference:   new("INV-7"),
	}
	for _, change := range changes {
		change(&c)
	}
	return c
}

func tenant() payment.Tenant {
	t := payment.Tenant{TenantRef: payment.TenantRef{ID: 7, Name: "acme"}}
	for i := range t.Salt {
		t.Salt[i] = byte(0xA0 + i)
	}
	return t
}

func key(t testing.TB, s string) payment.Key {
	t.Helper()
	k, err := payment.ParseKey(s)
	if err != nil {
		t.Fatalf("ParseKey(%q): %v", s, err)
	}
	return k
}

// create returns the payment of a content, which must be valid.
func create(t testing.TB, c payment.Content) payment.Payment {
	t.Helper()
	p, err := payment.New(tenant(), key(t, "order-4711"), c)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return p
}

// faultsOf returns what New finds wrong, as "pointer code" each; nothing when the content is valid.
func faultsOf(t testing.TB, c payment.Content) []string {
	t.Helper()
	p, err := payment.New(tenant(), key(t, "order-4711"), c)
	if err == nil {
		return nil
	}
	invalid, ok := errors.AsType[*payment.InvalidError](err)
	if !ok || len(invalid.Faults) == 0 {
		t.Fatalf("New: got %T (%v), want an *InvalidError with faults", err, err)
	}
	if p != (payment.Payment{}) {
		t.Errorf("got payment %v with an error, want the zero value", p)
	}
	var got []string
	for _, f := range invalid.Faults {
		got = append(got, f.Pointer+" "+f.Code)
		if f.Detail == "" || !strings.Contains(err.Error(), f.Pointer+": "+f.Detail) {
			t.Errorf("got error %q, want the fault %+v in it", err, f)
		}
	}
	return got
}

func wantFaults(t testing.TB, c payment.Content, want ...string) {
	t.Helper()
	if got := faultsOf(t, c); !slices.Equal(got, want) {
		t.Errorf("got faults %q, want %q", got, want)
	}
}

// vectors reads test vectors that another implementation has computed.
func vectors[V any](t testing.TB, file string) []V {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var all []V
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if len(all) == 0 {
		t.Fatalf("%s: got no vectors", file)
	}
	return all
}
