package payment_test

import (
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/internal/payment"
)

// TestDeriveID_Vectors holds the ids against testdata/ids.json, computed by this Python, which
// shares no code with ours:
//
//	def pid(salt, key):
//	    b = bytearray(hmac.new(salt, key.encode(), hashlib.sha256).digest()[:16])
//	    hyphens = [i for i, c in enumerate(key) if c == '-']
//	    try: u = uuid.UUID(key) if hyphens == [8, 13, 18, 23] and len(key) == 36 else None
//	    except ValueError: u = None
//	    if u and u.version == 7 and u.variant == uuid.RFC_4122: b[:6] = u.bytes[:6]
//	    b[6] = b[6] & 15 | 128
//	    b[8] = b[8] & 63 | 128
//	    return str(uuid.UUID(bytes=bytes(b)))
//
// A changed id would lose payments: a retry after the change would make a second one.
func TestDeriveID_Vectors(t *testing.T) {
	for _, v := range vectors[struct{ Name, Salt, Key, Written, ID string }](t, "ids.json") {
		t.Run(v.Name, func(t *testing.T) {
			var salt payment.Salt
			if n, err := hex.Decode(salt[:], []byte(v.Salt)); err != nil || n != len(salt) {
				t.Fatalf("got a salt of %d bytes, error %v", n, err)
			}
			k := key(t, v.Written)
			if k.String() != v.Key {
				t.Errorf("got key %q, want %q", k, v.Key)
			}
			id := payment.DeriveID(salt, k)
			if id.String() != v.ID {
				t.Errorf("got id %s, want %s", id, v.ID)
			}
			if u := uuid.UUID(id); u.Version() != 8 || u.Variant() != uuid.RFC4122 {
				t.Errorf("id %s: got version %d, variant %s, want a UUIDv8", id, u.Version(), u.Variant())
			}
		})
	}
}

func TestParseID(t *testing.T) {
	const written = "6d4648ad-0c3b-8a0e-99ee-9c65d3c4f30e"
	t.Run("RoundTrip", func(t *testing.T) {
		id, err := payment.ParseID(written)
		if err != nil || id.String() != written {
			t.Fatalf("ParseID: got %s, %v, want %s", id, err, written)
		}
		if b, err := json.Marshal(id); err != nil || string(b) != `"`+written+`"` {
			t.Errorf("got JSON %s, %v, want the id in quotes", b, err)
		}
	})
	for name, s := range map[string]string{
		"Empty":          "",
		"UpperCase":      strings.ToUpper(written),
		"OneUpperLetter": "6D4648ad-0c3b-8a0e-99ee-9c65d3c4f30e",
		"Braces":         "{" + written + "}",
		"URN":            "urn:uuid:" + written,
		"NoHyphens":      strings.ReplaceAll(written, "-", ""),
		"Quoted":         `"` + written + `"`,
		"SpaceFirst":     " " + written,
		"NewlineLast":    written + "\n",
		"OneShort":       written[:35],
		"OneLong":        written + "0",
		"NotHex":         "g" + written[1:],
		"MovedHyphen":    "6d4648a-d0c3b-8a0e-99ee-9c65d3c4f30e",
	} {
		t.Run("Refused/"+name, func(t *testing.T) {
			if id, err := payment.ParseID(s); err == nil || id != (payment.ID{}) {
				t.Errorf("ParseID(%q): got %s, %v, want an error", s, id, err)
			}
		})
	}
}
