package main

import (
	"slices"
	"testing"
	"time"
)

// A failure is looked for by running its seed again: the plan must be the same then, and another with another seed. Each minute must bring each kind.
func TestPlan(t *testing.T) {
	for _, brokers := range []int{1, 3} {
		one, again, other := plan(7, 5*time.Minute, brokers), plan(7, 5*time.Minute, brokers), plan(8, 5*time.Minute, brokers)
		if !slices.Equal(one, again) {
			t.Error("the same seed gives another plan")
		}
		if slices.Equal(one, other) {
			t.Error("another seed gives the same plan")
		}
		if len(one) < faultsMin*5/4 {
			t.Errorf("%d faults are planned for five minutes: some find nobody to hit, and %d must fire", len(one), faultsMin)
		}
		if !slices.ContainsFunc(one, fault.isLong) {
			t.Error("no replica is cut off from Kafka for long")
		}
		for minute := range 5 {
			seen := map[kind]bool{}
			for _, f := range one {
				if from := time.Duration(minute) * time.Minute; f.at >= from && f.at < from+time.Minute {
					seen[f.kind] = true
				}
				if most := 10 * time.Second; f.length <= 0 || f.length > most && !f.isLong() || f.length > 3*most {
					t.Errorf("fault %d lasts %s", f.number, f.length)
				}
			}
			for _, s := range bagOf(brokers) {
				if !seen[s.kind] && s.kind != scaledDown && s.kind != scaledUp { // These by turns.
					t.Errorf("minute %d has no %q", minute, s.kind)
				}
			}
		}
	}
}
