package payment_test

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/paylatch/paylatch/internal/payment"
)

// textField is a text member of the content.
type textField struct {
	pointer       string
	charactersMax int
	// identifier says that it has printable ASCII only.
	identifier bool
	set        func(*payment.Content, string)
	get        func(payment.Payment) string
}

var textFields = []textField{
	{
		"/originator/id", 35, true,
		func(c *payment.Content, s string) { c.Originator.ID = s },
		func(p payment.Payment) string { return p.Originator.ID },
	},
	{
		"/originator/name", 140, false,
		func(c *payment.Content, s string) { c.Originator.Name = s },
		func(p payment.Payment) string { return p.Originator.Name.Reveal() },
	},
	{
		"/beneficiary/id", 35, true,
		func(c *payment.Content, s string) { c.Beneficiary.ID = s },
		func(p payment.Payment) string { return p.Beneficiary.ID },
	},
	{
		"/beneficiary/name", 140, false,
		func(c *payment.Content, s string) { c.Beneficiary.Name = s },
		func(p payment.Payment) string { return p.Beneficiary.Name.Reveal() },
	},
	{
		"/sender/number", 34, true,
		func(c *payment.Content, s string) { c.Sender.Number = s },
		func(p payment.Payment) string { return p.Sender.Number.Reveal() },
	},
	{
		"/receiver/number", 34, true,
		func(c *payment.Content, s string) { c.Receiver = payment.AccountContent{Type: "checking", Number: s} },
		func(p payment.Payment) string { return p.Receiver.Number.Reveal() },
	},
	{
		"/reference", 35, false,
		func(c *payment.Content, s string) { c.Reference = &s },
		func(p payment.Payment) string { return p.Reference },
	},
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
}

func TestNew_TextRefused(t *testing.T) {
	for _, f := range textFields {
		for name, c := range map[string]struct{ value, code string }{
			"Empty":                {"", "required"},
			"Blank":                {" \t\n\u00a0\u3000", "required"},
			"TooLongByOne":         {strings.Repeat("x", f.charactersMax+1), "length"},
			"TooLongByOneAfterNFC": {strings.Repeat("e\u0301", f.charactersMax+1), "length"},
			"NUL":                  {"a\x00b", "characters"},
			"Newline":              {"a\nb", "characters"},
			"Tab":                  {"a\tb", "characters"},
			"Escape":               {"a\x1b[2Jb", "characters"},
			"Delete":               {"a\x7fb", "characters"},
			"NextLine":             {"a\u0085b", "characters"},
			"LineSeparator":        {"a\u2028b", "characters"},
			"ParagraphSeparator":   {"a\u2029b", "characters"},
			"NotUTF8":              {"a\xffb", "characters"},
			"SurrogateHalf":        {"a\xed\xa0\x80b", "characters"},
		} {
			t.Run(f.pointer+"/"+name, func(t *testing.T) {
				if f.identifier && !isASCII(c.value) && c.code == "length" {
					c.code = "characters"
				}
				wantFaults(t, content(func(x *payment.Content) { f.set(x, c.value) }), f.pointer+" "+c.code)
			})
		}
	}
}

func TestNew_TextNormalized(t *testing.T) {
	for _, f := range textFields {
		repeat := func(s string) string { return strings.Repeat(s, f.charactersMax) }
		longest := repeat("x")
		for name, c := range map[string]struct{ value, want string }{
			"OneCharacter":           {"x", "x"},
			"Longest":                {longest, longest},
			"LongestInFourBytes":     {repeat("😀"), repeat("😀")},
			"LongestAfterNFC":        {repeat("e\u0301"), repeat("\u00e9")},
			"LongestWithinBlanks":    {"  " + longest + "\r\n", longest},
			"NFC":                    {"Zoe\u0308", "Zo\u00eb"},
			"Hangul":                 {"\u1112\u1161\u11ab", "\ud55c"},
			"OuterBlanks":            {"\u00a0\t a \u2003", "a"},
			"InnerBlanksStay":        {"a  b", "a  b"},
			"CompatibilityFormsStay": {"ﬁ①", "ﬁ①"},
			"QuotesStay":             {`"<&>'\`, `"<&>'\`},
		} {
			t.Run(f.pointer+"/"+name, func(t *testing.T) {
				written := content(func(x *payment.Content) { f.set(x, c.value) })
				if f.identifier && !isASCII(c.want) {
					wantFaults(t, written, f.pointer+" characters")
					return
				}
				p := create(t, written)
				if got := f.get(p); got != c.want {
					t.Errorf("%q: got %q, want %q", c.value, got, c.want)
				}
			})
		}
	}
}

func TestNew_Reference(t *testing.T) {
	for name, c := range map[string]struct {
		reference *string
		want      string
		faults    []string
	}{
		"Absent":  {nil, "", nil},
		"Given":   {new(" INV-8 "), "INV-8", nil},
		"Empty":   {new(""), "", []string{"/reference required"}},
		"Blank":   {new("   "), "", []string{"/reference required"}},
		"TooLong": {new(strings.Repeat("7", 36)), "", []string{"/reference length"}},
	} {
		t.Run(name, func(t *testing.T) {
			written := content(func(x *payment.Content) { x.Reference = c.reference })
			wantFaults(t, written, c.faults...)
			if len(c.faults) > 0 {
				return
			}
			if got := create(t, written).Reference; got != c.want {
				t.Errorf("got reference %q, want %q", got, c.want)
			}
		})
	}
}

func TestNew_AllFaultsInOrder(t *testing.T) {
	t.Run("Missing", func(t *testing.T) {
		var want []string
		for _, pointer := range contract {
			want = append(want, pointer+" required")
		}
		wantFaults(t, payment.Content{Reference: new("")}, want...)
		wantFaults(t, payment.Content{}, want[:len(want)-1]...)
	})
	t.Run("Mixed", func(t *testing.T) {
		wantFaults(t, payment.Content{
			Amount:      "12.50",
			Currency:    "usd",
			Originator:  payment.PartyContent{ID: strings.Repeat("9", 36), Name: "a\x00b"},
			Beneficiary: payment.PartyContent{ID: " ", Name: strings.Repeat("n", 141)},
			Sender:      payment.AccountContent{Type: "Checking", Number: "\xff"},
			Receiver:    payment.AccountContent{Type: "iban", Number: "DE88370400440532013000"},
			Reference:   new("a\u2028b"),
		}, "/amount integer", "/currency unknown", "/originator/id length", "/originator/name characters",
			"/beneficiary/id required", "/beneficiary/name length", "/sender/type format", "/sender/number characters",
			"/receiver/number iban_checksum",
			"/reference characters")
	})
}

func TestNew(t *testing.T) {
	got := create(t, content())
	want := payment.Payment{
		ID:          payment.DeriveID(tenant().Salt, key(t, "order-4711")),
		Tenant:      payment.TenantRef{ID: 7, Name: "acme"},
		Money:       payment.Money{Minor: 25687, Currency: "USD"},
		Originator:  payment.Party{ID: "567", Name: "Yolanda Quist"},
		Beneficiary: payment.Party{ID: "123", Name: "Xavier Zork"},
		Sender:      payment.Account{Type: "checking", Number: "765543322"},
		Receiver:    payment.Account{Type: "iban", Number: "DE89370400440532013000"},
		Reference:   "INV-7",
		Status:      payment.StatusCreated,

		PartitionHash: payment.HashSender("acme", payment.Account{Type: "checking", Number: "765543322"}),
	}
	if got != want {
		t.Errorf("New made another payment; it differs from the expected one in content by %q", got.Differences(want))
	}
	if again := create(t, content()); again != got {
		t.Error("same tenant, key and content: got two payments, want one")
	}
}

// TestPayment_Differences shows that a reused key is refused with exactly the members that differ:
// a member forgotten here would make another payment pass as a replay.
func TestPayment_Differences(t *testing.T) {
	original := create(t, content())
	changes := []func(*payment.Payment){
		func(p *payment.Payment) { p.Money.Minor++ },
		func(p *payment.Payment) { p.Money.Currency = "EUR" },
		func(p *payment.Payment) { p.Originator.ID += "x" },
		func(p *payment.Payment) { p.Originator.Name += "x" },
		func(p *payment.Payment) { p.Beneficiary.ID += "x" },
		func(p *payment.Payment) { p.Beneficiary.Name += "x" },
		func(p *payment.Payment) { p.Sender.Type += "x" },
		func(p *payment.Payment) { p.Sender.Number += "x" },
		func(p *payment.Payment) { p.Receiver.Type += "x" },
		func(p *payment.Payment) { p.Receiver.Number += "x" },
		func(p *payment.Payment) { p.Reference = "" },
	}
	if len(changes) != len(contract) {
		t.Fatalf("got %d changes for %d members", len(changes), len(contract))
	}
	all := original
	for i, change := range changes {
		t.Run("Only"+contract[i], func(t *testing.T) {
			other := original
			change(&other)
			for _, got := range [][]string{original.Differences(other), other.Differences(original)} {
				if !slices.Equal(got, contract[i:i+1]) {
					t.Errorf("got differences %q, want %q", got, contract[i])
				}
			}
		})
		change(&all)
	}
	t.Run("All", func(t *testing.T) {
		if got := original.Differences(all); !slices.Equal(got, contract) {
			t.Errorf("got differences %q, want all in the contract's order", got)
		}
	})
	t.Run("NoneInWhatIsNotContent", func(t *testing.T) {
		other := original
		other.ID[0]++
		other.Tenant = payment.TenantRef{ID: 8, Name: "other"}
		other.TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		other.PartitionHash, other.Partition, other.Seq, other.Status = 1, 2, 3, payment.StatusSent
		other.CreatedAt, other.Emission = time.Unix(1, 0), &payment.Emission{Topic: "payments", Offset: 9}
		if got := original.Differences(other); got != nil {
			t.Errorf("got differences %q, want none", got)
		}
	})
}
