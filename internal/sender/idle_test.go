package sender

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/store"
)

// deliveries runs a test in both deliveries, on a rig of one partition with ten payments. Its
// owners check the end of the log nearly as often as they are idle.
func deliveries(t *testing.T, test func(t *testing.T, r *rig, delivery func(*Config))) {
	t.Helper()
	for _, delivery := range []store.Delivery{store.DeliveryFenced, store.DeliveryLocked} {
		t.Run(string(delivery), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 1, nil)
			changes := []func(*Config){func(c *Config) { c.EndCheckEvery = 200 * time.Millisecond }}
			if delivery == store.DeliveryFenced {
				changes = append(changes, r.inFenced())
			}
			r.create(0, 10)
			test(t, r, func(c *Config) {
				for _, change := range changes {
					change(c)
				}
			})
		})
	}
}

// ends is a log at which a test interferes when its end is checked.
type ends struct {
	Log
	checks atomic.Int64
	// lost is how many offsets of its tail the log seems to have lost.
	lost atomic.Int64
	// hang keeps checks from ending by themselves; hung counts them.
	hang atomic.Bool
	hung atomic.Int64
}

func (e *ends) in(c *Config) { e.Log, c.Log = c.Log, e }

func (e *ends) Range(ctx context.Context, topic string, partition int32) (kafka.Range, error) {
	e.checks.Add(1)
	if e.hang.Load() {
		e.hung.Add(1)
		<-ctx.Done()
		return kafka.Range{}, ctx.Err()
	}
	r, err := e.Log.Range(ctx, topic, partition)
	r.End -= e.lost.Load()
	r.StableEnd = min(r.StableEnd, r.End)
	return r, err
}

// wantHalted waits until the partition halts for a reason with the words in it.
func (r *rig) wantHalted(words string) {
	r.t.Helper()
	until(r.t, "the partition halts", func() bool { return r.row(0).State == store.StateHalted })
	if reason := r.row(0).Reason; !strings.Contains(reason, words) {
		r.t.Errorf("got the reason %q, want %q in it", reason, words)
	}
}

// holder is the process id of the session that owns the partition; 0 if none does.
func (r *rig) holder() int {
	r.t.Helper()
	return r.count(`select coalesce(max(pid), 0) ` + sessionsOfPartitions)
}

// TestIdle_LogLost has the log lose its last records while the owner has nothing to send.
func TestIdle_LogLost(t *testing.T) {
	t.Parallel()
	deliveries(t, func(_ *testing.T, r *rig, delivery func(*Config)) {
		var log ends
		r.run(r.replica(delivery, log.in))
		r.allSent()
		log.lost.Store(3)
		r.wantHalted("acknowledged records are lost")
	})
}

// TestIdle_TopicCreatedAgain deletes the topic and creates it again while the owner has nothing to
// send.
func TestIdle_TopicCreatedAgain(t *testing.T) {
	t.Parallel()
	deliveries(t, func(t *testing.T, r *rig, delivery func(*Config)) {
		r.run(r.replica(delivery))
		r.allSent()
		was := r.row(0).TopicID
		if _, err := r.admin.DeleteTopic(bounded(t), r.topic); err != nil {
			t.Fatal(err)
		}
		until(t, "the topic is created again", func() bool {
			// A broker may know the old one for a moment.
			_ = r.cluster.CreateTopic(bounded(t), r.topic, 1, 0)
			now, err := r.cluster.Range(bounded(t), r.topic, 0)
			return err == nil && now.TopicID != was
		})
		r.wantHalted("is another one than the payments went to")
	})
}

// TestIdle_TopicDeleted deletes the topic while the owner has nothing to send. That is no reason to
// halt yet; the owner releases the partition, as it does when it cannot send.
func TestIdle_TopicDeleted(t *testing.T) {
	t.Parallel()
	deliveries(t, func(t *testing.T, r *rig, delivery func(*Config)) {
		s := r.replica(delivery)
		r.run(s)
		r.allSent()
		if _, err := r.admin.DeleteTopic(bounded(t), r.topic); err != nil {
			t.Fatal(err)
		}
		until(t, "work fails", func() bool { return s.failed() > 0 })
	})
}

// TestIdle_Healthy is the control: an idle owner whose log is whole stays the owner,
// check after check.
func TestIdle_Healthy(t *testing.T) {
	t.Parallel()
	deliveries(t, func(t *testing.T, r *rig, delivery func(*Config)) {
		var log ends
		s := r.replica(delivery, log.in)
		r.run(s)
		r.allSent()
		was, holder, checks := r.row(0), r.holder(), log.checks.Load()
		until(t, "the owner has checked three times", func() bool { return log.checks.Load() >= checks+3 })
		if now := r.row(0); now != was || r.holder() != holder || s.failed() != 0 {
			t.Errorf("got %+v, session %d and %d failures; want %+v, session %d and 0", now, r.holder(), s.failed(),
				was, holder)
		}
		r.create(0, 5)
		r.allSent()
		r.verdict()
	})
}

// TestIdle_KafkaSilent has Kafka not respond to the checks. The owner goes on to touch its session,
// which would end after 5 s, and sends a payment that arrives during a check.
func TestIdle_KafkaSilent(t *testing.T) {
	t.Parallel()
	deliveries(t, func(t *testing.T, r *rig, delivery func(*Config)) {
		var log ends
		s := r.replica(delivery, log.in)
		r.run(s)
		r.allSent()
		was, holder := r.row(0), r.holder()
		log.hang.Store(true)
		until(t, "a check hangs", func() bool { return log.hung.Load() == 1 })
		until(t, "another one does", func() bool { return log.hung.Load() == 2 })
		r.create(0, 5)
		r.allSent()
		if now := r.row(0); now.Generation != was.Generation || r.holder() != holder || s.failed() != 0 {
			t.Errorf("got %+v, session %d and %d failures; want %+v, session %d and 0", now, r.holder(), s.failed(),
				was, holder)
		}
		r.verdict()
	})
}

// TestCompareEnd judges what a check may see.
func TestCompareEnd(t *testing.T) {
	t.Parallel()
	known := store.Partition{Topic: "payments", Delivery: store.DeliveryFenced, NextOffset: 10}
	other := kafka.Range{StableEnd: 10, End: 10}
	other.TopicID[0] = 1
	for name, tc := range map[string]struct {
		log  kafka.Range
		err  error
		want bool
	}{
		"AsLeft":          {kafka.Range{StableEnd: 10, End: 10}, nil, false},
		"Longer":          {kafka.Range{StableEnd: 10, End: 12}, nil, false},
		"Retention":       {kafka.Range{Start: 10, StableEnd: 10, End: 10}, nil, false},
		"KafkaAway":       {kafka.Range{}, errors.New("connection refused"), false},
		"TopicDeleted":    {kafka.Range{}, kafka.ErrNoTopic, true},
		"OtherTopic":      {other, nil, true},
		"Lost":            {kafka.Range{StableEnd: 8, End: 8}, nil, true},
		"Empty":           {kafka.Range{}, nil, true},
		"MarkerLost":      {kafka.Range{StableEnd: 5, End: 9}, nil, true},
		"OpenTransaction": {kafka.Range{StableEnd: 5, End: 10}, nil, true},
		"RecordDeleted":   {kafka.Range{Start: 11, StableEnd: 12, End: 12}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := compareEnd(t.Context(), fixed{log: tc.log, err: tc.err}, known); errors.Is(err,
				errContradiction) != tc.want {
				t.Errorf("got %v, want a contradiction: %t", err, tc.want)
			}
		})
	}
}

// fixed is a log that is always seen the same.
type fixed struct {
	Log
	log kafka.Range
	err error
}

func (f fixed) Range(context.Context, string, int32) (kafka.Range, error) { return f.log, f.err }

// TestEndCheck_Stop ends a check that would not end by itself, and a check without one.
func TestEndCheck_Stop(t *testing.T) {
	t.Parallel()
	var log ends
	log.hang.Store(true)
	s := New(Config{Log: &log})
	var c endCheck
	c.stop()
	if err := c.poll(s, store.Partition{}); err != nil || log.checks.Load() != 0 {
		t.Errorf("got %v and %d checks at once, want none", err, log.checks.Load())
	}
	c.due = time.Now().Add(-time.Second)
	if err := c.poll(s, store.Partition{}); err != nil {
		t.Error(err)
	}
	until(t, "a check hangs", func() bool { return log.hung.Load() == 1 })
	c.stop()
	c.stop()
}
