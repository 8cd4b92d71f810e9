package payment_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func apiKey(t *testing.T, s string) payment.APIKey {
	t.Helper()
	k, err := payment.ParseAPIKey(s)
	if err != nil {
		t.Fatalf("ParseAPIKey(%q): %v", s, err)
	}
	return k
}

// TestAPIKey_Vectors holds checksum, hash and hint against testdata/apikeys.json, computed by this
// Python:
//
//	def key(env, random):
//	    body = 'pl_%s_%s' % (env, random)
//	    n, sum = zlib.crc32(body.encode()), ''
//	    for _ in range(6): sum = BASE62[n % 62] + sum; n //= 62
//	    return body + sum    # hash: hashlib.sha256(key.encode())
//
// A changed hash would lock out every client, since only hashes are stored.
func TestAPIKey_Vectors(t *testing.T) {
	for _, v := range vectors[struct{ Env, Random, Key, SHA256, Hint string }](t, "apikeys.json") {
		t.Run(v.Env, func(t *testing.T) {
			k, err := payment.APIKeyOf(v.Env, v.Random)
			if err != nil || k.Reveal() != v.Key {
				t.Fatalf("APIKeyOf: got %q, %v, want %q", k.Reveal(), err, v.Key)
			}
			if apiKey(t, v.Key) != k {
				t.Error("ParseAPIKey: got another key than APIKeyOf")
			}
			hash := k.Hash()
			if got := hex.EncodeToString(hash[:]); got != v.SHA256 {
				t.Errorf("got hash %s, want %s", got, v.SHA256)
			}
			if k.Hint() != v.Hint {
				t.Errorf("got hint %q, want %q", k.Hint(), v.Hint)
			}
		})
	}
}

// TestParseAPIKey_Typos shows that each key with one character mistyped, or two neighbours swapped,
// is refused without the database.
func TestParseAPIKey_Typos(t *testing.T) {
	for _, v := range vectors[struct{ Key string }](t, "apikeys.json") {
		good := apiKey(t, v.Key).Reveal()
		for i := range len(good) {
			for _, c := range base62 + "_-. " {
				typo := good[:i] + string(c) + good[i+1:]
				if _, err := payment.ParseAPIKey(typo); err == nil && typo != good {
					t.Errorf("%q with character %d mistyped, %q: got no error", good, i, typo)
				}
			}
			if i == 0 || good[i] == good[i-1] {
				continue
			}
			swapped := good[:i-1] + good[i:i+1] + good[i-1:i] + good[i+1:]
			if _, err := payment.ParseAPIKey(swapped); err == nil {
				t.Errorf("%q with characters %d and %d swapped, %q: got no error", good, i-1, i, swapped)
			}
		}
	}
}

func TestParseAPIKey_Form(t *testing.T) {
	const good = "pl_live_0123456789ABCDEFGHIJKLMNOPQRSTUV1zHMvl"
	apiKey(t, good)
	for name, s := range map[string]string{
		"Empty":       "",
		"OneShort":    good[:len(good)-1],
		"OneLong":     good + "0",
		"NoPrefix":    strings.TrimPrefix(good, "pl_"),
		"UpperPrefix": "PL" + good[2:],
		"NoEnv":       strings.Replace(good, "live", "", 1),
		"SpaceFirst":  " " + good,
		"NewlineLast": good + "\n",
		"Bearer":      "Bearer " + good,
		"NonASCII":    strings.Replace(good, "V1", "Vé", 1),
		"TwoKeys":     good + good,
		"Masked":      "***",
	} {
		t.Run(name, func(t *testing.T) {
			if k, err := payment.ParseAPIKey(s); err == nil || k != (payment.APIKey{}) {
				t.Errorf("ParseAPIKey(%q): got key %q, want an error", s, k.Reveal())
			} else if s != "" && strings.Contains(err.Error(), s) {
				t.Errorf("got error %q, want one without the credential", err)
			}
		})
	}
}

func TestAPIKeyOf_Refused(t *testing.T) {
	const random = "0123456789ABCDEFGHIJKLMNOPQRSTUV"
	for name, c := range map[string]struct{ env, random string }{
		"NoEnv": {"", random}, "UpperEnv": {"Live", random}, "LongEnv": {strings.Repeat("e", 17), random},
		"EnvWithUnderscore": {"a_b", random},
		"ShortRandom":       {"dev", random[1:]}, "LongRandom": {"dev", random + "0"},
		"OtherRandom": {"dev", random[1:] + "-"},
	} {
		t.Run(name, func(t *testing.T) {
			if k, err := payment.APIKeyOf(c.env, c.random); err == nil || k != (payment.APIKey{}) {
				t.Errorf("APIKeyOf(%q, %q): got key %q, want an error", c.env, c.random, k.Reveal())
			}
		})
	}
}

func TestNewAPIKey(t *testing.T) {
	seen := map[payment.APIKeyHash]bool{}
	for range 100 {
		k, err := payment.NewAPIKey("live")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(k.Reveal(), "pl_live_") || len(k.Reveal()) != len("pl_live_")+38 {
			t.Errorf("got key %q, want pl_live_ and 38 characters", k.Reveal())
		}
		if apiKey(t, k.Reveal()) != k {
			t.Error("ParseAPIKey: got another key than NewAPIKey")
		}
		if seen[k.Hash()] {
			t.Error("got the same random key twice")
		}
		seen[k.Hash()] = true
	}
	if _, err := payment.NewAPIKey("Live"); err == nil {
		t.Error("NewAPIKey(Live): got a key, want an error")
	}
}

// TestAPIKey_Hint shows that the hint holds the environment and the last four characters, and
// nothing else of the key.
func TestAPIKey_Hint(t *testing.T) {
	for _, v := range vectors[struct{ Key, Env string }](t, "apikeys.json") {
		k := apiKey(t, v.Key)
		rest, ok := strings.CutPrefix(k.Hint(), "pl_"+v.Env+"_…")
		if !ok || len(rest) != 4 || !strings.HasSuffix(v.Key, rest) {
			t.Errorf("%q: got hint %q", v.Key, k.Hint())
		}
	}
}
