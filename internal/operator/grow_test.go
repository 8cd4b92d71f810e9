package operator

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/internal/store"
)

// list is what the database has recorded.
type list struct {
	partitions []store.Partition
	err        error
}

func (l list) Partitions(context.Context) ([]store.Partition, error) { return l.partitions, l.err }

// TestMayGrow: partitions are added only to a topic whose partitions are all active and of one
// delivery, and there can only be more of them.
func TestMayGrow(t *testing.T) {
	active := store.Partition{State: store.StateActive, Delivery: store.DeliveryFenced}
	halted := store.Partition{Number: 1, State: store.StateHalted, Delivery: store.DeliveryFenced, Reason: "a test"}
	locked := store.Partition{Number: 1, State: store.StateActive, Delivery: store.DeliveryLocked}
	away := errors.New("the database is away")
	for name, row := range map[string]struct {
		list list
		to   int32
		want string // Empty if they can be added.
	}{
		"more":           {list{[]store.Partition{active, active}, nil}, 3, ""},
		"as many":        {list{[]store.Partition{active, active}, nil}, 2, "there are 2 partitions already"},
		"fewer":          {list{[]store.Partition{active, active}, nil}, 1, "there are 2 partitions already"},
		"too many":       {list{[]store.Partition{active}, nil}, PartitionsMax + 1, "at most 1000 partitions"},
		"no topic":       {list{}, 3, store.ErrNoTopic.Error()},
		"halted":         {list{[]store.Partition{active, halted}, nil}, 3, "partition 1 is halted (a test)"},
		"two deliveries": {list{[]store.Partition{active, locked}, nil}, 3, "is locked, partition 0 fenced"},
		"away":           {list{nil, away}, 3, away.Error()},
	} {
		recorded, err := mayGrow(t.Context(), row.list, row.to)
		switch {
		case row.want == "" && (err != nil || len(recorded) != len(row.list.partitions)):
			t.Errorf("%s: got %d partitions, %v; want them", name, len(recorded), err)
		case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
			t.Errorf("%s: got %v, want %q", name, err, row.want)
		}
	}
}

// TestDoubt: what an operator says counts, and otherwise a batch if the log has lost anything.
func TestDoubt(t *testing.T) {
	for _, row := range []struct {
		lost        bool
		given, want int
	}{
		{false, -1, 0}, {true, -1, InDoubtDefault}, {true, 0, 0}, {true, 7, 7}, {false, 7, 7},
	} {
		if got := doubt(row.lost, row.given); got != row.want {
			t.Errorf("lost %t, given %d: got %d, want %d", row.lost, row.given, got, row.want)
		}
	}
}

// TestHalt_Reason: a halt without a reason is refused before the database is reached.
func TestHalt_Reason(t *testing.T) {
	for _, reason := range []string{"", " \n"} {
		if err := Halt(t.Context(), nil, 0, reason); err == nil || !strings.Contains(err.Error(), "--reason") {
			t.Errorf("%q: got %v, want an error that asks for a reason", reason, err)
		}
	}
}
