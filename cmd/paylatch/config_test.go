package main

import (
	"strings"
	"testing"
)

// TestChecker_Source: the source is in every event, and one that fits into no event would let every pass fail.
func TestChecker_Source(t *testing.T) {
	for source, right := range map[string]bool{
		"/paylatch": true, "https://payments.example/eu": true, "urn:x:y": true, "": false, "%": false, "/" + strings.Repeat("x", 8<<10): false,
	} {
		var c checker
		c.source(source)
		if (c.err() == nil) != right {
			t.Errorf("%.40q: %v", source, c.err())
		}
	}
}

// TestRedacted: PostgreSQL takes passwords in several places; none of them is shown.
func TestRedacted(t *testing.T) {
	for _, url := range []string{
		"postgres://u:sesame@db:5432/p", "postgres://u@db/p?password=sesame", "host=db user=u password=sesame dbname=p", "postgres://u:sesame@[broken",
	} {
		if got := redacted(url); strings.Contains(got, "sesame") {
			t.Errorf("%s is shown as %s", url, got)
		}
	}
	if got := redacted("postgres://u:sesame@db:5432/p"); got != "postgres://u:***@db:5432/p" {
		t.Errorf("where it is should be seen: %s", got)
	}
}
