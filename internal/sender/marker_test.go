package sender

import (
	"context"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/test/parts"
)

// losing is a rig on a broker that can lose a marker.
type losing struct {
	*rig
	broker *parts.LosingBroker
}

func newLosing(t *testing.T) losing {
	t.Helper()
	broker := parts.LosingKafka(t)
	return losing{newRigOn(t, broker.Addr, 1, nil), broker}
}

// lose makes an owner send a batch of ten, whose marker is lost.
func (l losing) lose(changes ...func(*Config)) *partitionWorker {
	l.t.Helper()
	l.create(0, 10)
	f := l.ownFenced(l.replica(append([]func(*Config){batches(10), l.inFenced()}, changes...)...))
	if _, err := f.step(bounded(l.t)); err != nil {
		l.t.Fatal(err)
	}
	l.broker.LoseNext()
	_, _ = f.step(bounded(l.t))
	if !l.broker.Lost() {
		l.t.Fatal("no marker was lost: nothing was tested")
	}
	if g, err := l.cluster.Range(bounded(l.t), l.topic, 0); err != nil || g.StableEnd != 0 || g.End != 10 {
		l.t.Fatalf("no transaction is open: %+v, %v", g, err)
	}
	return f
}

// workOn runs owners until all is sent. After each failure the next owner starts.
func (r *rig) workOn(f *partitionWorker) {
	r.t.Helper()
	until(r.t, "all is sent", func() bool {
		if f.session == nil {
			f = r.ownFenced(r.replica(batches(10), r.inFenced()))
		}
		for again := true; again; {
			var err error
			again, err = f.step(bounded(r.t))
			if err != nil {
				r.t.Log(err)
				f.reset()
				return false
			}
		}
		return r.unsent(0) == 0
	})
}

// Kafka decides that a batch is committed, reports that, and loses the marker. The next owner finds
// records in an open transaction, and no error. If the batch is on record, it is committed, whether
// its owner is alive or dead. If it is not on record, no consumer has seen it: it is aborted and
// sent again. (On kfake: see parts.LosingBroker.)
func TestFenced_MarkerLost(t *testing.T) {
	t.Parallel()
	t.Run("OwnerLives", func(t *testing.T) {
		t.Parallel()
		r := newLosing(t)
		first := r.lose()
		r.wantUnsent(0, 0)
		r.create(0, 5)
		r.workOn(first)
		r.verdict()
	})
	t.Run("OwnerRests", func(t *testing.T) {
		// Nothing more is to be sent. What was sent must become visible.
		t.Parallel()
		r := newLosing(t)
		first := r.lose()
		r.wantUnsent(0, 0)
		until(t, "the batch is seen", func() bool {
			r.workOn(first)
			return len(r.log()) == 10
		})
		r.verdict()
	})
	t.Run("OwnerDies", func(t *testing.T) {
		t.Parallel()
		r := newLosing(t)
		first := r.lose()
		r.wantUnsent(0, 0)
		first.reset()
		r.create(0, 5)
		r.workOn(first)
		r.verdict()
	})
	t.Run("OwnerDiesBeforeItIsOnRecord", func(t *testing.T) {
		t.Parallel()
		r := newLosing(t)
		first := r.lose(func(c *Config) {
			c.At = func(_ int32, p Point) {
				if p == BatchCommitted {
					r.terminate()
				}
			}
		})
		r.wantUnsent(0, 10)
		first.reset()
		r.create(0, 5)
		r.workOn(first)
		r.verdict()
	})
}

// This is the positive control: an owner that does not wait for the marker. Its next transaction
// counts as part of the last one, and the takeover after that aborts both. What was on record is
// not in the log, and there is no error.
func TestFenced_MarkerLost_Unsettled(t *testing.T) {
	t.Parallel()
	r := newLosing(t)
	first := r.lose(func(c *Config) { c.Fencer = impatient{c.Fencer} })
	r.create(0, 5)
	r.workOn(first)
	if got := len(r.log()); got != 5 {
		t.Errorf("%d records are in the topic, want the batch of 10 that was on record lost, and the 5 sent",
			got)
	}
}

// A zombie has read the row, and has not fenced yet, when its session ends. Its successor sends a
// batch, whose marker is lost. Then the zombie goes on, and fences its successor. By the row that
// it has read, that batch is not on record. It must not abort it.
func TestFenced_MarkerLost_ZombieFences(t *testing.T) {
	t.Parallel()
	r := newLosing(t)
	var successor *partitionWorker
	zombie := r.ownFenced(r.replica(r.inFenced(), func(c *Config) {
		c.At = func(_ int32, p Point) {
			if p == TakeoverClaimed && successor == nil {
				r.terminate()
				successor = r.lose()
			}
		}
	}))
	if _, err := zombie.step(bounded(t)); err == nil || successor == nil {
		t.Fatalf("error %v: nothing was tested", err)
	}
	r.wantUnsent(0, 0)
	zombie.reset()
	r.create(0, 5)
	r.workOn(successor)
	r.verdict()
}

// An open transaction that begins before next_offset cannot be ended: part of what is on record may
// be in it. The error would not go away, so the partition halts.
func TestFenced_OpenTransactionOnRecord(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	r.create(0, 3)
	r.foreign()
	r.exec(`update topic_partitions set next_offset = 1`) // As if its one record were on record.
	f := r.ownFenced(r.replica(r.inFenced()))
	if _, err := f.step(bounded(t)); !halted(err) {
		t.Errorf("error %v", err)
	}
	if p := r.row(0); p.State != store.StateHalted ||
		!strings.Contains(p.Reason, "open from offset 0 on, before the next offset 1, and the log ends at 1") {
		t.Errorf("the partition is %s: %s", p.State, p.Reason)
	}
	r.wantUnsent(0, 3)
}

// impatient makes producers that do not wait for markers.
type impatient struct{ Fencer }

func (h impatient) Fence(ctx context.Context, partition int32, transactionalID string) (Producer, error) {
	p, err := h.Fencer.Fence(ctx, partition, transactionalID)
	if err != nil {
		return nil, err
	}
	return alwaysStable{p}, nil
}

type alwaysStable struct{ Producer }

func (alwaysStable) AwaitStable(context.Context, int64) error { return nil }
