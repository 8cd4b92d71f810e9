package main

import (
	"strings"
	"testing"

	"github.com/paylatch/paylatch/internal/api"
	"github.com/paylatch/paylatch/internal/store"
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

// TestTenantInFlightDefault: one tenant alone cannot fill the intake of all.
func TestTenantInFlightDefault(t *testing.T) {
	if api.TenantInFlightDefault > store.CreatesMax/2 {
		t.Errorf("one tenant may have %d creates under way, of %d for all", api.TenantInFlightDefault, store.CreatesMax)
	}
}

// TestChecker_Limits: what is no limit, and what is none that a replica can keep, is told at the start and names its setting.
func TestChecker_Limits(t *testing.T) {
	for _, row := range []struct {
		rate, inFlight string
		want           api.TenantLimits
		faults         []string
	}{
		{"0", "512", api.TenantLimits{InFlight: 512}, nil},
		{"0.5", "0", api.TenantLimits{Rate: 0.5}, nil},
		{"100000", "1", api.TenantLimits{Rate: 100_000, InFlight: 1}, nil},
		{"-1", "512", api.TenantLimits{}, []string{"--tenant-rate (PAYLATCH_TENANT_RATE)"}},
		{"0.001", "512", api.TenantLimits{}, []string{"--tenant-rate"}}, // Rounded to 0 it would be no limit.
		{"100001", "512", api.TenantLimits{}, []string{"--tenant-rate"}},
		{"NaN", "512", api.TenantLimits{}, []string{"--tenant-rate"}},
		{"Inf", "512", api.TenantLimits{}, []string{"--tenant-rate"}},
		{"fast", "-1", api.TenantLimits{}, []string{"--tenant-rate", "--tenant-in-flight (PAYLATCH_TENANT_IN_FLIGHT)"}}, // Both at once.
		{"", "1.5", api.TenantLimits{}, []string{"--tenant-rate", "--tenant-in-flight"}},
	} {
		var c checker
		var got config
		c.api(apiSettings{Listen: "127.0.0.1:0", TenantRate: row.rate, TenantInFlight: row.inFlight, DrainDelay: "0s"}, &got)
		if len(row.faults) != len(c.faults) || len(row.faults) == 0 && got.limits != row.want {
			t.Errorf("%q and %q: %v, faults %q", row.rate, row.inFlight, got.limits, c.faults)
		}
		for _, setting := range row.faults {
			if !strings.Contains(c.err().Error(), setting) {
				t.Errorf("%q and %q: %v does not name %s", row.rate, row.inFlight, c.err(), setting)
			}
		}
	}
}

// TestChecker_DrainDelay: a delay is at most drainDelayMax, and 0 is none.
func TestChecker_DrainDelay(t *testing.T) {
	for delay, right := range map[string]bool{"0": true, "0s": true, "5s": true, "10m": true, "10m1s": false, "-1s": false, "5": false, "": false} {
		var c checker
		var got config
		c.api(apiSettings{Listen: "127.0.0.1:0", TenantRate: "0", TenantInFlight: "0", DrainDelay: delay}, &got)
		if (c.err() == nil) != right || !right && !strings.Contains(c.err().Error(), "--drain-delay (PAYLATCH_DRAIN_DELAY)") {
			t.Errorf("%q: %v, want right %v", delay, c.err(), right)
		}
	}
}
