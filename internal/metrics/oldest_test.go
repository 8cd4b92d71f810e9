package metrics

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestOldest: the age of a partition's oldest payment grows with the clock of the process. It
// begins again with the next payment, and ends when none waits.
func TestOldest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := oldest{seen: map[int32]sighting{}}
		for _, step := range []struct {
			partition int32
			seq       int64
			want      time.Duration
		}{
			{1, 7, 0},
			{1, 7, time.Second},
			{1, 7, 2 * time.Second},
			{2, 7, 0},
			{1, 8, 0},
			{1, 8, time.Second},
			{1, 0, 0},
			{1, 8, 0},
			{2, 7, 5 * time.Second},
		} {
			if got := o.waiting(step.partition, step.seq); got != step.want {
				t.Errorf("seq %d of partition %d waits for %s, want %s", step.seq, step.partition, got, step.want)
			}
			time.Sleep(time.Second)
		}
	})
}
