package sender

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/recovery"
	"github.com/paylatch/paylatch/internal/store"
)

// inFenced configures fenced delivery for a replica, and for the partitions of the rig.
func (r *rig) inFenced() func(*Config) {
	r.t.Helper()
	r.exec(`update topic_partitions set delivery = 'fenced'`)
	fencer := FencerOf(kafka.NewFencer(brokers.At(r.broker), r.topic, store.PublishTimeout))
	return func(c *Config) { c.Delivery, c.Fencer = store.DeliveryFenced, fencer }
}

// ownFenced makes an owner with a session. Its first step is a takeover.
func (r *rig) ownFenced(s replica) *partitionWorker { return r.ownOnly(s, 0) }

// tail returns what the last takeover of a fenced owner has found.
func tail(w *partitionWorker) store.Recovered { return w.delivery.(*fenced).tail }

// work makes takeover steps and batches until nothing is left to do.
func work(t *testing.T, w *partitionWorker) {
	t.Helper()
	for again := true; again; {
		var err error
		again, err = w.step(bounded(t))
		if err != nil {
			t.Fatal(err)
		}
	}
}

// An owner loses its session during a batch. Kafka does not know that. The owner is still the
// partition's only producer, and commits in Kafka; PostgreSQL does not commit. Its successor finds
// the batch in the tail and marks it. Nothing is emitted again.
func TestFenced_SessionLostAt(t *testing.T) {
	t.Parallel()
	for _, point := range []Point{BatchSelected, BatchProduced, BatchCommitted, BatchMarked} {
		t.Run(string(point), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 1, nil)
			all := r.create(0, 30)
			fired := 0
			first := r.ownFenced(r.replica(batches(10), r.inFenced(), func(c *Config) {
				c.At = func(_ int32, p Point) {
					if p == point {
						fired++
						r.terminate()
					}
				}
			}))
			if _, err := first.step(bounded(t)); err != nil {
				t.Fatal(err)
			}
			if _, err := first.step(bounded(t)); err == nil || fired != 1 {
				t.Fatalf("error %v, fired %d times: nothing was tested", err, fired)
			}
			second := r.ownFenced(r.replica(batches(10), r.inFenced()))
			work(t, second)
			if tail(second).Marked != 10 {
				t.Errorf("%d payments found in the tail, want 10", tail(second).Marked)
			}
			r.wantInOrder(0, all)
			r.verdict()
		})
	}
}

// A zombie: its session ends after it has selected a batch. Another owner sends that batch and
// more. Then the zombie goes on. It can neither commit in Kafka nor mark.
func TestFenced_Zombie(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	all := r.create(0, 30)
	var second *partitionWorker
	zombie := r.ownFenced(r.replica(batches(10), r.inFenced(), func(c *Config) {
		c.At = func(_ int32, p Point) {
			if p == BatchSelected && second == nil {
				r.terminate()
				second = r.ownFenced(r.replica(batches(10), r.inFenced()))
				work(t, second)
			}
		}
	}))
	if _, err := zombie.step(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := zombie.step(bounded(t)); err == nil || second == nil {
		t.Fatalf("error %v: nothing was tested", err)
	}
	r.wantInOrder(0, all)
	r.verdict()
	more := r.create(0, 5)
	work(t, r.ownFencedAfter(second))
	r.wantInOrder(0, append(all, more...))
	r.verdict()
}

// ownFencedAfter makes the successor of an owner that has ended.
func (r *rig) ownFencedAfter(f *partitionWorker) *partitionWorker {
	r.t.Helper()
	f.reset()
	return r.ownFenced(r.replica(r.inFenced()))
}

// PostgreSQL is restored to a copy from before the payments. Their rows are gone, and next_offset
// is older. The takeover puts the rows back from their records, with their contents and as sent. It
// emits nothing again.
func TestFenced_Restored(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	all := r.create(0, 25)
	first := r.ownFenced(r.replica(batches(10), r.inFenced()))
	work(t, first)
	first.reset()
	row := `select md5(string_agg(p::text, ',' order by seq)) from (select id, tenant_id, amount, currency,
		originator_id, beneficiary_id, sender_id, receiver_id, reference,
		trace_context, partition, seq, status, created_at, kafka_offset from payments) p`
	var before, after string
	if err := r.sql.QueryRow(bounded(t), row).Scan(&before); err != nil {
		t.Fatal(err)
	}
	r.tamper(`delete from payments`)
	r.exec(`update topic_partitions set next_offset = 0, generation = 0`)

	second := r.ownFenced(r.replica(batches(10), r.inFenced()))
	work(t, second)
	if tail(second).Restored != 25 {
		t.Errorf("%d rows put back, want 25", tail(second).Restored)
	}
	if err := r.sql.QueryRow(bounded(t), row).Scan(&after); err != nil || after != before {
		t.Errorf("the rows are not what they were (error %v)", err)
	}
	r.wantInOrder(0, all)
	r.verdict()
}

// This is the positive control of the tail read. Without it, a crash between the two commits emits
// a batch twice, which the same verdict must see.
func TestFenced_WithoutTailRead(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	all := r.create(0, 20)
	first := r.ownFenced(r.replica(batches(10), r.inFenced(), func(c *Config) {
		c.At = func(_ int32, p Point) {
			if p == BatchCommitted {
				r.terminate()
			}
		}
	}))
	_, _ = first.step(bounded(t))
	if _, err := first.step(bounded(t)); err == nil {
		t.Fatal("nothing was tested")
	}
	work(t, r.ownFenced(r.replica(batches(10), r.inFenced(), func(c *Config) { c.Log = blind{c.Log} })))
	r.wantInOrder(0, all[:10], all)
}

// blind is a log whose tail is not read.
type blind struct{ Log }

func (blind) Read(context.Context, string, int32, int64, int64, func(kafka.Record) error) error {
	return nil
}

// fenceForeign makes the producer of another program.
func (r *rig) fenceForeign() *kafka.Producer {
	r.t.Helper()
	p, err := kafka.NewFencer(brokers.At(r.broker), r.topic, store.PublishTimeout).Fence(bounded(r.t), 0, "foreign-"+
		r.topic)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(p.Close)
	return p
}

// foreign begins a transaction of another program in the partition's log.
func (r *rig) foreign() *kafka.Producer {
	r.t.Helper()
	p := r.fenceForeign()
	if err := p.Produce(bounded(r.t), 0, []kafka.Event{{Key: []byte("k"), Value: []byte("v")}}); err != nil {
		r.t.Fatal(err)
	}
	return p
}

// An open transaction of another program keeps a takeover from knowing the log. The takeover fails,
// again and again, and nothing is sent. When the transaction is aborted, all is sent. When it is
// committed, the log has an unexpected record, and the partition halts.
func TestFenced_ForeignTransaction(t *testing.T) {
	t.Parallel()
	for name, commit := range map[string]bool{"Aborted": false, "Committed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 1, nil)
			all := r.create(0, 3)
			foreign := r.foreign()
			f := r.ownFenced(r.replica(r.inFenced()))
			if _, err := f.step(bounded(t)); err == nil ||
				!strings.Contains(err.Error(), "open there is: producer id ") {
				t.Fatalf("error %v", err)
			}
			f.reset()
			if commit {
				if err := foreign.Commit(bounded(t)); err != nil {
					t.Fatal(err)
				}
			} else {
				r.fenceForeign() // Aborts.
			}
			until(t, "the transaction is decided", func() bool {
				g, err := r.cluster.Range(bounded(t), r.topic, 0)
				return err == nil && g.StableEnd == g.End
			})
			f = r.ownFenced(r.replica(r.inFenced()))
			if !commit {
				work(t, f)
				r.wantInOrder(0, all)
				r.verdict()
				return
			}
			if _, err := f.step(bounded(t)); !errors.Is(err, errHalted) {
				t.Errorf("error %v", err)
			}
			if p := r.row(0); p.State != store.StateHalted || !strings.Contains(p.Reason, "unexpected") {
				t.Errorf("the partition is %s: %s", p.State, p.Reason)
			}
			r.wantUnsent(0, 3)
		})
	}
}

// A batch is in the log twice, as another implementation of a sender could leave it. The partition
// halts, since a read_committed consumer has seen it.
func TestFenced_Repeated(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	r.create(0, 3)
	first := r.ownFenced(r.replica(r.inFenced()))
	work(t, first)
	first.reset()
	// As if never marked, but with next_offset moved on.
	r.tamper(`update payments set status = 'created', sent_at = null, kafka_offset = null`)
	second := r.ownFenced(r.replica(r.inFenced()))
	work(t, second)
	second.reset()
	r.exec(`update topic_partitions set next_offset = 0`)
	r.tamper(`update payments set status = 'created', sent_at = null, kafka_offset = null`)
	if _, err := r.ownFenced(r.replica(r.inFenced())).step(bounded(t)); !errors.Is(err, errHalted) {
		t.Errorf("error %v", err)
	}
	if p := r.row(0); p.State != store.StateHalted ||
		!strings.Contains(p.Reason, "3 records of the log below offset 8 repeat payments") {
		t.Errorf("the partition is %s: %s", p.State, p.Reason)
	}
}

// A long tail is read in steps, each on record by itself. The successor of an owner that dies in
// between goes on from there.
func TestFenced_LongTail(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	const n = 2*recovery.StepDefault + 500
	r.create(0, 1)
	r.exec(`insert into payments (amount, originator_id, beneficiary_id, sender_id, receiver_id, id, tenant_id,
		partition, currency)
		select n, originator_id, beneficiary_id, sender_id, receiver_id,
		(overlay(overlay(gen_random_uuid()::text placing '8' from 15) placing '8' from 20))::uuid,
			tenant_id, 0, 'EUR' from payments, generate_series(2, $1) as n`, n)
	first := r.ownFenced(r.replica(r.inFenced()))
	work(t, first)
	first.reset()
	end := r.row(0).NextOffset
	r.tamper(`update payments set status = 'created', sent_at = null, kafka_offset = null`)
	r.exec(`update topic_partitions set next_offset = 0`)

	second := r.ownFenced(r.replica(r.inFenced()))
	if again, err := second.step(bounded(t)); !again || err != nil || second.state == stateSending {
		t.Fatalf("after a step: again %t, state %s, %v", again, second.state, err)
	}
	next := r.row(0).NextOffset // A slow machine's step ends where its time is up.
	if marked := r.count(`select count(*) from payments where status = 'sent' and kafka_offset < $1`,
		next); next <= 0 || next > recovery.StepDefault || marked == 0 ||
		marked != r.count(`select count(*) from payments where status = 'sent'`) {
		t.Fatalf("after a step of %d offsets at most next_offset is %d, and %d payments below it are marked",
			recovery.StepDefault, next, marked)
	}
	second.reset()
	third := r.ownFenced(r.replica(r.inFenced()))
	for third.state != stateSending {
		if _, err := third.step(bounded(t)); err != nil {
			t.Fatal(err)
		}
	}
	r.wantRow(0, end)
	r.wantUnsent(0, 0)
	r.verdict()
}
