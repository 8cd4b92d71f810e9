package main

import (
	"slices"
	"testing"
	"time"
)

// A failure is debugged by running its seed again. So the same seed must give the same plan, and
// another seed another one. Each minute must have each kind.
func TestPlan(t *testing.T) {
	for _, brokers := range []int{1, 3} {
		one := plan(7, 5*time.Minute, brokers)
		if again := plan(7, 5*time.Minute, brokers); !slices.Equal(one, again) {
			t.Error("the same seed: got another plan, want the same")
		}
		if other := plan(8, 5*time.Minute, brokers); slices.Equal(one, other) {
			t.Error("another seed: got the same plan, want another")
		}
		if want := faultsMin * 5 / 4; len(one) < want { // Some find no target.
			t.Errorf("got %d faults for five minutes, want at least %d", len(one), want)
		}
		if !slices.ContainsFunc(one, fault.isLong) {
			t.Error("got no replica that is cut off from Kafka for long, want one")
		}
		for minute := range 5 {
			seen := map[kind]bool{}
			for _, f := range one {
				if from := time.Duration(minute) * time.Minute; f.at >= from && f.at < from+time.Minute {
					seen[f.kind] = true
				}
				if most := 10 * time.Second; f.length <= 0 || f.length > most && !f.isLong() || f.length > 3*most {
					t.Errorf("got length %s of fault %d, want up to %s, or %s of an isolation",
						f.length, f.number, most, 3*most)
				}
			}
			for _, s := range bagOf(brokers) {
				if !seen[s.kind] && s.kind != scaledDown && s.kind != scaledUp { // These alternate.
					t.Errorf("got no %q in minute %d, want one", s.kind, minute)
				}
			}
		}
	}
}
