package payment_test

import (
	"strings"
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
)

func TestCheckTenantName(t *testing.T) {
	for _, s := range []string{"a", "7", "acme", "acme-2", "a-", "a--b", "0-0", strings.Repeat("a", 63)} {
		if err := payment.CheckTenantName(s); err != nil {
			t.Errorf("%q: got error %v, want none", s, err)
		}
	}
	for _, s := range []string{
		"", "-", "-a", "Acme", "acmE", "a_b", "a.b", "a b", " a", "a ", "a\n", "a\x00", "ä", "a/b", "\xff",
		strings.Repeat("a", 64),
	} {
		if err := payment.CheckTenantName(s); err == nil {
			t.Errorf("%q: got no error, want one", s)
		}
	}
}
