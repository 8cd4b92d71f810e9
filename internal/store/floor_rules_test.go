package store

import "testing"

const (
	worlds     = 100
	worldSteps = 300
)

// TestFloor_Rules plays the floor in worlds in which everything happens between any two steps. No
// check and no claim may pass over an unsent payment. Each rule is needed: without it some do.
func TestFloor_Rules(t *testing.T) {
	t.Parallel()
	play := func(locked bool, breaks rule) (passed int, highest int64) {
		for seed := range uint64(worlds) {
			w := newWorld(seed, locked, breaks)
			w.run(worldSteps)
			passed += w.passed
			highest = max(highest, w.highest)
		}
		return passed, highest
	}
	for _, locked := range []bool{false, true} {
		passed, highest := play(locked, noRule)
		if passed > 0 || highest == 0 {
			t.Errorf("locked %t: %d checks and claims passed over a payment, want 0; the floor rose to %d", locked,
				passed, highest)
		}
		t.Logf("locked %t: the floor rose to %d", locked, highest)
		for _, broken := range []rule{
			idBeforeDraw, idAfterRead, waitForXmin, commitFirst, stopAtSkipped, raiseAtResend,
			checkRow, checkLast,
		} {
			if broken == stopAtSkipped && !locked {
				continue // Fenced delivery skips nothing.
			}
			passed, _ := play(locked, broken)
			if passed == 0 {
				t.Errorf("locked %t: without %q nothing was passed over: the world does not show it", locked, broken)
			}
			t.Logf("locked %t: without %q: %d", locked, broken, passed)
		}
	}
}
