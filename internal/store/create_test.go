package store_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// TestStore_Create_RoundTrip: every field is returned as it was made, by the create and from the
// row.
func TestStore_Create_RoundTrip(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	bare := func(c *payment.Content) { c.Reference = nil }
	longest := func(c *payment.Content) {
		c.Amount, c.Currency = "999999999999999", "JPY"
		c.Originator = payment.PartyContent{ID: strings.Repeat("~", 35), Name: strings.Repeat("名", 140)}
		c.Sender = payment.AccountContent{Type: "a" + strings.Repeat("-", 34), Number: strings.Repeat("9", 34)}
		c.Reference = new(strings.Repeat("😀", 35))
	}
	for name, p := range map[string]payment.Payment{
		"WithReference": f.payment("with-reference"),
		"Bare":          f.payment("bare", bare),
		"WithTrace":     withTrace(f.payment("with-trace"), trace),
		"BareWithTrace": withTrace(f.payment("bare-with-trace", bare), trace),
		"Longest":       withTrace(f.payment(strings.Repeat("~", 255), longest), trace),
	} {
		t.Run(name, func(t *testing.T) {
			before := query[time.Time](f, `select clock_timestamp()`)
			created := f.create(p)
			after := query[time.Time](f, `select clock_timestamp()`)

			want := p
			want.Partition, want.Seq, want.CreatedAt = payment.PartitionOf(p.PartitionHash, 12), created.Seq,
				created.CreatedAt
			wantSame(t, created, want)
			wantSame(t, f.find(p.ID), want)
			if created.Status != payment.StatusCreated || created.Seq < 1 {
				t.Errorf("status %q, seq %d", created.Status, created.Seq)
			}
			if created.CreatedAt.Before(before) || created.CreatedAt.After(after) ||
				created.CreatedAt.Location() != time.UTC {
				t.Errorf("created at %v, want between %v and %v, in UTC", created.CreatedAt, before, after)
			}
		})
	}
}

func withTrace(p payment.Payment, header string) payment.Payment {
	p.TraceParent = payment.ParseTraceParent(header)
	return p
}

// TestStore_Create_SameKeySameContent: a retry returns the payment with its present status and
// changes nothing, whatever its trace context and the status are.
func TestStore_Create_SameKeySameContent(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	first := f.create(withTrace(f.payment("order-1"), trace))
	replay := func(want payment.Payment) {
		t.Helper()
		const another = "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-00"
		got, replayed, err := f.Create(t.Context(), withTrace(f.payment("order-1"), another))
		if err != nil || !replayed {
			t.Fatalf("replayed %t, %v", replayed, err)
		}
		wantSame(t, got, want)
	}
	replay(first)
	f.exec(`update payments set status = 'sent', sent_at = now(), kafka_offset = 41`)
	sent := f.find(first.ID)
	if sent.Status != payment.StatusSent || sent.Emission == nil || sent.Emission.Offset != 41 ||
		sent.Emission.Topic != topic {
		t.Fatalf("the sent payment reads %q, %+v", sent.Status, sent.Emission)
	}
	got, replayed, err := openStore(t, f.url).Create(t.Context(), f.payment("order-1"))
	if err != nil || !replayed || *got.Emission != *sent.Emission || got.Status != payment.StatusSent {
		t.Errorf("replay of a sent payment, by another replica: %q, %+v, replayed %t, %v", got.Status, got.Emission,
			replayed, err)
	}
	if rows := query[int](f, `select count(*) from payments`); rows != 1 {
		t.Errorf("%d rows, want 1", rows)
	}
}

// TestStore_Create_SameKeyOtherContent: a reused key is refused with exactly the members that
// differ, in the order of the contract. The stored payment stays as it was.
func TestStore_Create_SameKeyOtherContent(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	first := f.create(f.payment("order-1"))
	for pointers, change := range map[string]func(*payment.Content){
		"/amount":           func(c *payment.Content) { c.Amount = "25688" },
		"/currency":         func(c *payment.Content) { c.Currency = "EUR" },
		"/originator/id":    func(c *payment.Content) { c.Originator.ID = "568" },
		"/originator/name":  func(c *payment.Content) { c.Originator.Name = "yolanda Quist" },
		"/beneficiary/id":   func(c *payment.Content) { c.Beneficiary.ID = "0123" },
		"/beneficiary/name": func(c *payment.Content) { c.Beneficiary.Name = "X" },
		"/sender/type":      func(c *payment.Content) { c.Sender.Type = "savings" },
		"/sender/number":    func(c *payment.Content) { c.Sender.Number = "0765543322" },
		"/receiver/type":    func(c *payment.Content) { c.Receiver.Type = "bban" },
		"/receiver/number":  func(c *payment.Content) { c.Receiver.Number = "GB82WEST12345698765432" },
		"/reference":        func(c *payment.Content) { c.Reference = nil },
		"/amount /originator/id /originator/name /beneficiary/id /beneficiary/name /reference": func(
			c *payment.Content,
		) {
			c.Amount, c.Reference = "1", new("INV-8")
			c.Originator, c.Beneficiary = c.Beneficiary, c.Originator
		},
	} {
		t.Run(strings.ReplaceAll(pointers, "/", "."), func(t *testing.T) {
			got, replayed, err := f.Create(t.Context(), f.payment("order-1", change))
			reused, ok := errors.AsType[*payment.KeyReusedError](err)
			if !ok || replayed || got != (payment.Payment{}) {
				t.Fatalf("payment %v, replayed %t, error %v, want only a *KeyReused", got, replayed, err)
			}
			if want := strings.Fields(pointers); reused.ID != first.ID || !slices.Equal(reused.Differs, want) {
				t.Errorf("refused for %s, %q, want %s, %q", reused.ID, reused.Differs, first.ID, want)
			}
		})
	}
	wantSame(t, f.find(first.ID), first)
}

// TestStore_Create_TwoTenantsOneKey: a key belongs to its tenant. Both tenants get a payment, and
// neither sees the other's.
func TestStore_Create_TwoTenantsOneKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	other := f.newTenant("other")
	mine, theirs := f.create(f.payment("order-1")), f.create(newPayment(t, other, "order-1"))
	if mine.ID == theirs.ID {
		t.Fatal("one id for two tenants")
	}
	if _, err := f.Find(t.Context(), f.tenant.TenantRef, theirs.ID); !errors.Is(err, payment.ErrNotFound) {
		t.Errorf("another tenant's payment: %v, want payment.ErrNotFound", err)
	}
	if _, err := f.Find(t.Context(), f.tenant.TenantRef, f.payment("never").ID); !errors.Is(err, payment.ErrNotFound) {
		t.Errorf("a payment that is not: %v, want payment.ErrNotFound", err)
	}
	if _, err := f.FindDerived(t.Context(), f.tenant.TenantRef, f.payment("never").ID); !errors.Is(err,
		payment.ErrNotFound) {
		t.Errorf("a key that stands for none: %v, want payment.ErrNotFound", err)
	}
	found, err := f.Find(t.Context(), other.TenantRef, theirs.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, found, theirs)
}

// TestStore_Create_ForeignRow forges what a changed salt or a mixed-up table would leave: a row of
// another tenant under an id that was derived for this one. Nothing of it may be reported, and the
// error alarms the operator.
func TestStore_Create_ForeignRow(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 12)
	secrets := func(c *payment.Content) {
		c.Amount, c.Originator = "777777", payment.PartyContent{ID: "secret-id", Name: "Secret Name"}
		c.Sender, c.Reference = payment.AccountContent{Type: "secret-type", Number: "secret-number"},
			new("secret-reference")
	}
	theirs := f.create(newPayment(t, f.newTenant("other"), "theirs", secrets))
	// The content is the same, so that only the tenant differs.
	mine := f.payment("order-1", secrets)
	f.exec(copyPayment, uuid.UUID(mine.ID), uuid.UUID(theirs.ID))

	alarmed := func(p payment.Payment, err error) {
		t.Helper()
		wantUnavailable(t, err, "ALARM", mine.ID.String())
		if p != (payment.Payment{}) {
			t.Error("a foreign payment was returned")
		}
		for _, secret := range []string{"777777", "ecret"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("error %q tells %q", err, secret)
			}
		}
	}
	created, replayed, err := f.Create(t.Context(), mine)
	alarmed(created, err)
	if replayed {
		t.Error("a foreign row was taken for a replay")
	}
	alarmed(f.FindDerived(t.Context(), f.tenant.TenantRef, mine.ID))
	if _, err := f.Find(t.Context(), f.tenant.TenantRef, mine.ID); !errors.Is(err, payment.ErrNotFound) {
		t.Errorf("by its id: %v, want payment.ErrNotFound", err)
	}
	if rows := query[int](f, `select count(*) from payments`); rows != 2 {
		t.Errorf("%d rows, want the two forged", rows)
	}
}

// TestStore_Create_NoTopic: no payment is stored, and the error says what to do, until the topic is
// set up. After that payments are stored.
func TestStore_Create_NoTopic(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 0)
	p := f.payment("order-1")
	_, _, err := f.Create(t.Context(), p)
	wantUnavailable(t, err, "paylatch partitions init")
	_, err = f.Find(t.Context(), f.tenant.TenantRef, p.ID)
	wantUnavailable(t, err, "paylatch partitions init")
	_, err = f.Ready(t.Context())
	wantUnavailable(t, err, "paylatch partitions init")

	if err := f.InitPartitions(t.Context(), topic, uuid.New(), store.DeliveryFenced, make([]int64, 3)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	f.create(p)
}
