package payment_test

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/paylatch/paylatch/internal/payment"
)

// FuzzNew checks the promises of New for any content:
//
//   - it does not panic;
//   - it returns a payment or an *InvalidError, never both;
//   - each fault is at a member of the contract, in the contract's order, with a known code;
//   - what it accepts is a fixed point: the normal form makes the same payment, so that a client
//     may retry with what is in the response;
//   - what it accepts is within the bounds of the schema.
func FuzzNew(f *testing.F) {
	seed := func(c payment.Content) {
		reference := ""
		if c.Reference != nil {
			reference = *c.Reference
		}
		f.Add(c.Amount, c.Currency, c.Originator.ID, c.Originator.Name, c.Beneficiary.ID, c.Beneficiary.Name,
			c.Sender.Type, c.Sender.Number, c.Receiver.Type, c.Receiver.Number, reference, c.Reference != nil)
	}
	seed(content())
	seed(payment.Content{})
	seed(content(func(c *payment.Content) { c.Reference = nil }))
	seed(content(func(c *payment.Content) { c.Receiver.Number = "\tgb29 nwbk 6016 1331 9268 19\u00a0" }))
	seed(content(func(c *payment.Content) {
		c.Sender = payment.AccountContent{Type: "iban", Number: "se45 5000 0000 0583 9825 7466"}
	}))
	seed(content(func(c *payment.Content) { c.Originator.Name = " \u0301Zoe\u0308 \u1112\u1161\u11ab\u212b\u2126 " }))
	seed(content(func(c *payment.Content) { c.Beneficiary.Name = " a" + strings.Repeat("\u0301", 70) }))
	seed(content(func(c *payment.Content) { c.Beneficiary.Name = strings.Repeat("\u0316\u0301", 40) + "\u2001" }))
	seed(content(func(c *payment.Content) { c.Beneficiary.Name = "a" + strings.Repeat("\u0316\u0301", 15) + "\u0344" }))
	seed(content(func(c *payment.Content) { c.Originator.Name = "\u0915\u094d\u200d\u0937 \u2126\u212b\U0002f800" }))
	seed(content(func(c *payment.Content) { c.Amount, c.Currency = "-1", "usd" }))
	seed(content(func(c *payment.Content) { c.Amount, c.Sender.Type = "999999999999999", " a-1\n" }))
	seed(content(func(c *payment.Content) { c.Originator.ID, c.Sender.Number = "\xff\xfe", "\x00" }))
	seed(content(func(c *payment.Content) {
		c.Sender = payment.AccountContent{Type: "iban", Number: "\ufb01\u0131\u017f\u212a" + strings.Repeat("é", 20)}
	}))

	f.Fuzz(func(
		t *testing.T,
		amount, currency, oid, oname, bid, bname, stype, snumber, rtype, rnumber, reference string, given bool,
	) {
		c := payment.Content{
			Amount: amount, Currency: currency,
			Originator:  payment.PartyContent{ID: oid, Name: oname},
			Beneficiary: payment.PartyContent{ID: bid, Name: bname},
			Sender:      payment.AccountContent{Type: stype, Number: snumber},
			Receiver:    payment.AccountContent{Type: rtype, Number: rnumber},
		}
		if given {
			c.Reference = &reference
		}
		k := key(t, "order-4711")
		p, err := payment.New(tenant(), k, c)
		if err != nil {
			checkInvalid(t, p, err)
			return
		}
		checkBounds(t, p)
		checkNFC(t, "/originator/name", oname, p.Originator.Name.Reveal())
		checkNFC(t, "/beneficiary/name", bname, p.Beneficiary.Name.Reveal())
		if given {
			checkNFC(t, "/reference", reference, p.Reference)
		}
		again, err := payment.New(tenant(), k, normalForm(p))
		if err != nil {
			t.Fatalf("normal form of an accepted payment: got error %v, want none", err)
		}
		if again != p || again.Differences(p) != nil {
			t.Fatalf("normal form: got another payment, which differs in %q", again.Differences(p))
		}
	})
}

// normalForm returns the content that a client sends if it repeats what is in the response.
func normalForm(p payment.Payment) payment.Content {
	amount := strconv.FormatInt(p.Money.Minor, 10)
	c := payment.Content{
		Amount: amount, Currency: p.Money.Currency,
		Originator:  payment.PartyContent{ID: p.Originator.ID, Name: p.Originator.Name.Reveal()},
		Beneficiary: payment.PartyContent{ID: p.Beneficiary.ID, Name: p.Beneficiary.Name.Reveal()},
		Sender:      payment.AccountContent{Type: p.Sender.Type, Number: p.Sender.Number.Reveal()},
		Receiver:    payment.AccountContent{Type: p.Receiver.Type, Number: p.Receiver.Number.Reveal()},
	}
	if p.Reference != "" {
		c.Reference = &p.Reference
	}
	return c
}

func checkInvalid(t *testing.T, p payment.Payment, err error) {
	t.Helper()
	invalid, ok := errors.AsType[*payment.InvalidError](err)
	if !ok || len(invalid.Faults) == 0 || p != (payment.Payment{}) {
		t.Fatalf("got payment %v and error of type %T, want an *InvalidError with faults only", p, err)
	}
	codes := []string{
		"required", "integer", "range", "unknown", "length", "characters", "format", "iban_country", "iban_length",
		"iban_checksum", "iban_format",
	}
	last := 0
	for _, fault := range invalid.Faults {
		at := slices.Index(contract, fault.Pointer)
		if at < last {
			t.Errorf("got a fault at %q, want members in the order of the contract", fault.Pointer)
		}
		last = at
		if !slices.Contains(codes, fault.Code) || fault.Detail == "" {
			t.Errorf("%s: got code %q and detail %q", fault.Pointer, fault.Code, fault.Detail)
		}
	}
}

func checkBounds(t *testing.T, p payment.Payment) {
	t.Helper()
	if p.Money.Minor < 1 || p.Money.Minor > 999_999_999_999_999 || len(p.Money.Currency) != 3 {
		t.Errorf("got money %d %q, want it within its bounds", p.Money.Minor, p.Money.Currency)
	}
	if p.Status != payment.StatusCreated {
		t.Errorf("got status %q, want created", p.Status)
	}
	for _, text := range []struct {
		at, s    string
		min, max int
	}{
		{"/originator/id", p.Originator.ID, 1, 35},
		{"/originator/name", p.Originator.Name.Reveal(), 1, 140},
		{"/beneficiary/id", p.Beneficiary.ID, 1, 35},
		{"/beneficiary/name", p.Beneficiary.Name.Reveal(), 1, 140},
		{"/sender/type", p.Sender.Type, 1, 35},
		{"/sender/number", p.Sender.Number.Reveal(), 1, 34},
		{"/receiver/type", p.Receiver.Type, 1, 35},
		{"/receiver/number", p.Receiver.Number.Reveal(), 1, 34},
		{"/reference", p.Reference, 0, 35},
	} {
		n := utf8.RuneCountInString(text.s)
		if n < text.min || n > text.max || !utf8.ValidString(text.s) ||
			strings.ContainsAny(text.s, "\x00\r\n\u0085\u2028\u2029") {
			t.Errorf("%s: got %q, want it refused", text.at, text.s)
		}
	}
	for _, id := range []string{
		p.Originator.ID, p.Beneficiary.ID, p.Sender.Number.Reveal(), p.Receiver.Number.Reveal(),
	} {
		if strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("got identifier %+q, want it refused", id)
		}
	}
	for _, a := range []payment.Account{p.Sender, p.Receiver} {
		if a.Type == payment.IBAN && strings.Trim(a.Number.Reveal(), "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
			t.Errorf("got IBAN %q, want it refused", a.Number.Reveal())
		}
	}
}

// FuzzParseKey: a valid key has 1 to 255 visible ASCII characters. Its bare form and its quoted
// form are the same key.
func FuzzParseKey(f *testing.F) {
	for _, s := range []string{
		"", "k", "order-4711", `"order-4711"`, `"a\"b\\c"`, `a"b`, `a\b`, `"`, `""`, `"\`, `"\"`, `"a"b"`, "a b", "ü",
		"\xff", strings.Repeat("k", 255),
		strings.Repeat("k", 256), `"` + strings.Repeat(`\\`, 255) + `"`, "01932c07-209f-7c3e-8a4b-5d6e7f809112",
		"{01932c07-209f-7c3e-8a4b-5d6e7f809112}",
	} {
		f.Add(s)
	}
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	f.Fuzz(func(t *testing.T, s string) {
		k, err := payment.ParseKey(s)
		if err != nil {
			if !errors.Is(err, payment.ErrKey) || k != (payment.Key{}) {
				t.Fatalf("ParseKey(%q): got %q, %v, want no key and ErrKey", s, k, err)
			}
			return
		}
		bare := k.String()
		invisible := func(r rune) bool { return r < 0x21 || r > 0x7e }
		if len(bare) < 1 || len(bare) > 255 || strings.ContainsFunc(bare, invisible) {
			t.Fatalf("ParseKey(%q): got %q, want an error", s, bare)
		}
		if s[0] != '"' && bare != s {
			t.Errorf("ParseKey(%q): got %q, want it unchanged", s, bare)
		}
		if again, err := payment.ParseKey(`"` + escape.Replace(bare) + `"`); err != nil || again != k {
			t.Errorf("%q in quotes: got %q, %v, want the same key", bare, again, err)
		}
		if again, err := payment.ParseKey(bare); bare[0] != '"' && (err != nil || again != k) {
			t.Errorf("%q: got %q, %v, want the same key", bare, again, err)
		}
		id := payment.DeriveID(tenant().Salt, k)
		if parsed, err := payment.ParseID(id.String()); err != nil || parsed != id || id[6]>>4 != 8 || id[8]>>6 != 2 {
			t.Errorf("key %q: got id %s and %v, want a UUIDv8", k, id, err)
		}
	})
}

// FuzzParseAPIKey: what is taken is the very text of the key, with its prefix and length; its hint
// shows no more than the environment and the last four characters; what is refused is not repeated
// in the error.
func FuzzParseAPIKey(f *testing.F) {
	for _, s := range []string{
		"", "pl_", "pl_live_", "pl_live_0123456789ABCDEFGHIJKLMNOPQRSTUV1zHMvl",
		"pl_dev_0000000000000000000000000000000028Q3nr",
		"pl_dev_0000000000000000000000000000000028Q3nR", "pl_e_ZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ3vkasA", "PL_dev_0",
		"pl__\xff", "pl_é_",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k, err := payment.ParseAPIKey(s)
		if err != nil {
			if k != (payment.APIKey{}) || len(s) > 16 && strings.Contains(err.Error(), s) {
				t.Fatalf("ParseAPIKey(%q): got key %q and error %v", s, k.Reveal(), err)
			}
		} else {
			checkAPIKey(t, k, s)
		}
		// A key that can be made can be parsed.
		if made, err := payment.APIKeyOf("dev", s); err == nil {
			checkAPIKey(t, made, made.Reveal())
		}
	})
}

func checkAPIKey(t *testing.T, k payment.APIKey, s string) {
	t.Helper()
	env, rest, ok := strings.Cut(strings.TrimPrefix(s, "pl_"), "_")
	if !ok || len(rest) != 38 || k.Reveal() != s || k.Hint() != "pl_"+env+"_…"+rest[34:] {
		t.Errorf("ParseAPIKey(%q): got hint %q", s, k.Hint())
	}
	if again, err := payment.ParseAPIKey(k.Reveal()); err != nil || again.Hash() != k.Hash() {
		t.Errorf("ParseAPIKey(%q) again: got error %v or another hash", s, err)
	}
}

// FuzzPartition: for any sender and any count of partitions, the partition exists, and is the same
// each time.
func FuzzPartition(f *testing.F) {
	f.Add("acme", "checking", "765543322", uint32(12))
	f.Add("acme", "iban", "DE89370400440532013000", uint32(1))
	f.Add("", "", "", uint32(1<<31-2))
	f.Add("\xff", "東京", "\x00", uint32(4_000_000_000))
	f.Fuzz(func(t *testing.T, name, kind, number string, n uint32) {
		count := int32(n%(1<<31-1)) + 1 // 1 to 2^31 - 1; the installation checks its count when it is set up.
		a := payment.Account{Type: kind, Number: payment.Private(number)}
		hash := payment.HashSender(name, a)
		if p := payment.PartitionOf(hash, count); p < 0 || p >= count {
			t.Errorf("got partition %d of %d", p, count)
		}
		if payment.HashSender(name, a) != hash {
			t.Error("one sender: got two hashes, want one")
		}
		if kind != "" { // The same bytes with another border are another sender.
			moved := payment.Account{Type: kind[1:], Number: a.Number}
			if payment.HashSender(name+kind[:1], moved) == hash {
				t.Errorf("%q + %q: got the hash of %q + %q", name, kind, name+kind[:1], moved.Type)
			}
		}
	})
}

// FuzzParseID: an id that is taken is written the one way it came.
func FuzzParseID(f *testing.F) {
	const id = "6d4648ad-0c3b-8a0e-99ee-9c65d3c4f30e"
	for _, s := range []string{
		"", id, strings.ToUpper(id), "{" + id + "}", "urn:uuid:" + id, strings.ReplaceAll(id, "-", ""), id + "\n",
		"\xff",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := payment.ParseID(s)
		if err == nil && got.String() != s || err != nil && got != (payment.ID{}) {
			t.Errorf("ParseID(%q) = %s, %v", s, got, err)
		}
	})
}

// FuzzParseTraceParent: a header is kept as it is or dropped, and what is kept survives storage in
// 25 bytes.
func FuzzParseTraceParent(f *testing.F) {
	for _, s := range []string{
		"", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
		"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x", "00-", "\xff",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		kept := payment.ParseTraceParent(s)
		if kept == "" {
			return
		}
		if string(kept) != s || len(kept.Bytes()) != 25 || payment.TraceParentOf(kept.Bytes()) != kept {
			t.Errorf("%q: got %q and %x, want it unchanged", s, kept, kept.Bytes())
		}
	})
}
