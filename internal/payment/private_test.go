package payment_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/paylatch/paylatch/internal/payment"
)

// verbs are all that fmt knows for strings, byte arrays and structs, with the flags that change how
// they are shown.
var verbs = []string{
	"%v", "%+v", "%#v", "%s", "%+s", "%q", "%+q", "%#q", "%x", "%X", "% x", "%#x", "% X", "%d", "%+d", "%#d", "%o",
	"%b", "%c", "%U", "%t", "%e",
	"%200v", "%-200s", "%.3s", "%.300v", "%T",
}

// secret is a value that must not appear. The name is for failure messages.
type secret struct {
	name  string
	bytes []byte
}

// spellings returns the forms in which bytes are printed and encoded. Four bytes count as a leak.
func (s secret) spellings() []string {
	head := s.bytes[:4]
	spaced := strings.ToLower(strings.TrimSpace(fmt.Sprintf("% x", head)))
	decimal := strings.Trim(fmt.Sprintf("%d", head), "[]")
	all := []string{
		hex.EncodeToString(head), spaced, "0x" + strings.ReplaceAll(spaced, " ", ", 0x"), decimal,
		strings.ReplaceAll(decimal, " ", ","),
		base64.StdEncoding.EncodeToString(s.bytes)[:5],
		strings.Trim(fmt.Sprintf("%o", head), "[]"), strings.Trim(fmt.Sprintf("%b", head), "[]"),
		strings.Trim(fmt.Sprintf("%U", head), "[]"),
	}
	for i := 0; i+4 <= len(s.bytes); i++ { // Any four characters in a row, since a precision may cut.
		all = append(all, string(s.bytes[i:i+4]))
	}
	return all
}

// wantMasked fails the test if the output contains one of the secrets.
func wantMasked(t *testing.T, output string, secrets ...secret) {
	t.Helper()
	lower := strings.ToLower(output)
	for _, s := range secrets {
		for _, spelling := range s.spellings() {
			if strings.Contains(lower, strings.ToLower(spelling)) {
				t.Errorf("got the %s as %q in %q, want it masked", s.name, spelling, output)
				return
			}
		}
	}
}

// secrets are the secrets in masked. Numbers and key consist of letters that are not hexadecimal
// digits, so that an address or a time in the output cannot look like one.
var secrets = []secret{
	{"originator's name", []byte("Yolanda Quist")},
	{"beneficiary's name", []byte("Xavier Zork")},
	{"sender's number", []byte("Kvqzxwjyhm")},
	{"receiver's number", []byte("Mwrtyplzux")},
	{"salt", salt()},
	{"API key", []byte("GHIJKLMNOPQRSTUVWXYZghijklmnopqr")},
}

func salt() []byte {
	s := tenant().Salt
	return s[:]
}

func lettered(c *payment.Content) {
	c.Sender.Number = "Kvqzxwjyhm"
	c.Receiver = payment.AccountContent{Type: "wallet", Number: "Mwrtyplzux"}
}

// full returns a payment with every field set, as the database returns it.
func full(t *testing.T) payment.Payment {
	p := create(t, content(lettered))
	p.ID, p.PartitionHash = payment.ID{}, 0 // Their digits could contain a part of a secret by chance.
	p.TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	p.Partition, p.Seq, p.Status = 3, 42, payment.StatusSent
	p.CreatedAt = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	p.Emission = &payment.Emission{At: p.CreatedAt, Topic: "payments", Offset: 9}
	return p
}

// masked returns values that contain a secret, by type. Each is also behind a pointer and inside
// other values.
func masked(t *testing.T) map[string]any {
	p, who := full(t), tenant()
	k := apiKey(t, "pl_live_GHIJKLMNOPQRSTUVWXYZghijklmnopqr2hSQaj")
	return map[string]any{
		"Payment": p, "PaymentPointer": &p, "Payments": []payment.Payment{p},
		"PaymentMap": map[string]payment.Payment{"p": p},
		"PaymentAny": []any{p}, "PaymentField": struct{ P payment.Payment }{p},
		"Party": p.Originator, "PartyPointer": &p.Beneficiary, "Parties": []payment.Party{p.Originator, p.Beneficiary},
		"Account": p.Sender, "AccountPointer": &p.Receiver, "Accounts": [2]payment.Account{p.Sender, p.Receiver},
		"Private": p.Sender.Number, "PrivatePointer": &p.Receiver.Number,
		"Privates": []payment.Private{p.Originator.Name},
		"APIKey":   k, "APIKeyPointer": &k, "APIKeys": []payment.APIKey{k},
		"APIKeyField": struct{ K payment.APIKey }{k},
		"Tenant":      who, "TenantPointer": &who, "Tenants": []payment.Tenant{who}, "Salt": who.Salt,
		"SaltPointer": &who.Salt,
	}
}

func TestPrivate_NoVerbReveals(t *testing.T) {
	for name, value := range masked(t) {
		for _, verb := range verbs {
			t.Run(name+"/"+verb, func(t *testing.T) {
				wantMasked(t, fmt.Sprintf(verb, value), secrets...)
				wantMasked(t, fmt.Errorf("wrapped: "+verb, value).Error(), secrets...)
			})
		}
		t.Run(name+"/Print", func(t *testing.T) {
			wantMasked(t, fmt.Sprint(value)+fmt.Sprintln(value), secrets...)
		})
	}
}

func TestPrivate_NoLogReveals(t *testing.T) {
	handlers := map[string]func(*bytes.Buffer) slog.Handler{
		"JSON": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
		"Text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
	}
	for handlerName, handler := range handlers {
		for name, value := range masked(t) {
			t.Run(handlerName+"/"+name, func(t *testing.T) {
				var b bytes.Buffer
				log := slog.New(handler(&b))
				log.Info("plain", "value", value)
				log.With("value", value).WithGroup("g").Info("bound", slog.Group("h", "value", value))
				log.Error("formatted", "error", fmt.Errorf("of %v: %+v", value, value))
				if strings.Count(b.String(), "value") < 3 {
					t.Fatalf("got log %q, want value in it three times", b.String())
				}
				wantMasked(t, b.String(), secrets...)
			})
		}
	}
}

// TestPrivate_LogValue: a handler that does not use TextMarshaler gets the mask, too.
func TestPrivate_LogValue(t *testing.T) {
	if got := slog.AnyValue(full(t).Originator.Name).Resolve(); got.Any() != "***" {
		t.Errorf("got %v of kind %s, want ***", got.Any(), got.Kind())
	}
}

func TestPrivate_NoJSONReveals(t *testing.T) {
	encoders := map[string]func(any) ([]byte, error){
		"Marshal": json.Marshal,
		"Encoder": func(v any) ([]byte, error) {
			var b bytes.Buffer
			err := json.NewEncoder(&b).Encode(v)
			return b.Bytes(), err
		},
		"Version2": func(v any) ([]byte, error) { return jsonv2.Marshal(v) },
	}
	for encoderName, encode := range encoders {
		for name, value := range masked(t) {
			t.Run(encoderName+"/"+name, func(t *testing.T) {
				b, err := encode(value)
				// Version 2 refuses a struct without exported fields, which hides it as well.
				if err != nil && encoderName != "Version2" {
					t.Fatal(err)
				}
				wantMasked(t, string(b)+fmt.Sprint(err), secrets...)
			})
		}
	}
}

// TestInvalidError_NeverHoldsTheValue: an error does not contain the value that a client sent. The
// error is logged and sent, and a name in the wrong field is still a name.
func TestInvalidError_NeverHoldsTheValue(t *testing.T) {
	wrong := secret{"refused value", []byte("Qw7Zy-Kp9Xv")}
	value := string(wrong.bytes)
	for name, suffix := range map[string]string{
		"ControlCharacter": "\x00", "LineBreak": "\n.", "NotUTF8": "\xff", "TooLong": strings.Repeat("~", 200),
		"AsItIs": "",
	} {
		s := value + suffix
		for _, kind := range []string{"iban", s} {
			t.Run(name+"/"+kind[:4], func(t *testing.T) {
				_, err := payment.New(tenant(), key(t, "k"), payment.Content{
					Amount: s, Currency: s,
					Originator: payment.PartyContent{ID: s, Name: s}, Beneficiary: payment.PartyContent{ID: s, Name: s},
					Sender:   payment.AccountContent{Type: kind, Number: s},
					Receiver: payment.AccountContent{Type: "iban", Number: "DE00" + s}, Reference: &s,
				})
				if err == nil {
					t.Fatal("got no error, want an *InvalidError")
				}
				for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
					wantMasked(t, fmt.Sprintf(verb, err), append(secrets, wrong)...)
				}
				b, jsonErr := json.Marshal(err)
				if jsonErr != nil {
					t.Fatal(jsonErr)
				}
				wantMasked(t, string(b), append(secrets, wrong)...)
				var log bytes.Buffer
				slog.New(slog.NewJSONHandler(&log, nil)).Error("refused", "error", err)
				wantMasked(t, log.String(), append(secrets, wrong)...)
			})
		}
	}
}

func TestKeyReusedError_NamesMembersOnly(t *testing.T) {
	p := full(t)
	other := create(t, content(lettered, func(c *payment.Content) {
		c.Originator.Name, c.Sender.Number = "Nadia", "1"
	}))
	err := &payment.KeyReusedError{ID: p.ID, Differs: p.Differences(other)}
	if !strings.Contains(err.Error(), "/originator/name, /sender/number") {
		t.Errorf("got error %q, want the members in it", err)
	}
	wantMasked(t, fmt.Sprintf("%v %+v %#v", err, err, err), secrets...)
}

// TestPrivate_Reveal: Reveal returns the value, and fmt does not.
func TestPrivate_Reveal(t *testing.T) {
	p := full(t)
	if got := p.Originator.Name.Reveal() + "/" + p.Receiver.Number.Reveal(); got != "Yolanda Quist/Mwrtyplzux" {
		t.Errorf("got %q, want the name and the number", got)
	}
	if got := fmt.Sprintf("%v", p.Originator.Name); got != "***" {
		t.Errorf("got %q, want ***", got)
	}
}
