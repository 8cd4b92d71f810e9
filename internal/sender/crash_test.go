package sender

import (
	"context"
	"testing"

	"github.com/paylatch/paylatch/internal/kafka"
)

// hooked is a real publisher with a step of the test before or after each batch.
type hooked struct {
	Publisher
	before, after func()
}

func (b hooked) Publish(ctx context.Context, partition int32, events []kafka.Event) (int64, error) {
	if b.before != nil {
		b.before()
	}
	base, err := b.Publisher.Publish(ctx, partition, events)
	if b.after != nil {
		b.after()
	}
	return base, err
}

// This shows the limit of locked delivery. A replica that dies between publishing a batch and
// marking it causes a repetition: of exactly that batch, and of nothing else. The marks are those
// of the records that its successor wrote.
func TestSender_Batch_CrashAfterPublish(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	all := r.create(0, 30)
	first := r.own(r.replica(batches(10)), 0)
	sendBatch(t, first)

	first.sender.Publisher = hooked{Publisher: first.sender.Publisher, after: func() { r.terminate() }}
	if again, err := first.sendBatch(bounded(t)); err == nil || again || !first.session.Lost() {
		t.Fatalf("again %t, error %v, session lost %t: nothing was tested", again, err, first.session.Lost())
	}
	r.wantInOrder(0, all[:20])
	r.wantUnsent(0, 20)
	r.wantRow(0, 10)

	r.drain(r.own(r.replica(batches(10)), 0))
	r.wantInOrder(0, all[:20], all[10:])
	r.wantRow(0, 40)
	r.verdict(all[10:20]...)
}

// The same at the last moment: the database ends the session during the commit. A deferred trigger
// does it, as a crash would.
func TestSender_Batch_LostAtCommit(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	all := r.create(0, 30)
	o := r.own(r.replica(batches(10)), 0)
	sendBatch(t, o)
	r.exec(`create function die() returns trigger language plpgsql as
		'begin perform pg_terminate_backend(pg_backend_pid()); return null; end'`)
	r.exec(`create constraint trigger die after update on topic_partitions deferrable initially deferred for each row
		execute function die()`)
	if again, err := o.sendBatch(bounded(t)); err == nil || again || !o.session.Lost() {
		t.Fatalf("again %t, error %v, session lost %t: nothing was tested", again, err, o.session.Lost())
	}
	r.exec(`drop trigger die on topic_partitions`)
	r.wantInOrder(0, all[:20])
	r.wantUnsent(0, 20)
	r.wantRow(0, 10)

	r.drain(r.own(r.replica(batches(10)), 0))
	r.wantInOrder(0, all[:20], all[10:])
	r.verdict(all[10:20]...)
}

// A commit succeeds, and its response is lost. The owner does not know the outcome, but the
// database does. Nothing is repeated.
func TestSender_Batch_CommitResponseLost(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	all := r.create(0, 30)
	w := newWire(t, r.url)
	o := r.own(r.replica(batches(10), func(c *Config) { c.Store = r.open(w.url) }), 0)
	sendBatch(t, o)
	w.loseNextCommit()
	if again, err := o.sendBatch(bounded(t)); err == nil || again || !w.hasLost() {
		t.Fatalf("again %t, error %v, response lost %t: nothing was tested", again, err, w.hasLost())
	}
	r.wantUnsent(0, 10)
	r.wantRow(0, 20)

	r.drain(r.own(r.replica(batches(10)), 0))
	r.wantInOrder(0, all)
	r.verdict()
}

// An owner is stopped while it publishes, for longer than its session lives. Its successor takes
// over and sends the batch. Then the first owner goes on, and so does its batch, which is in the
// topic twice. The first owner cannot mark anything, and nothing else is repeated.
func TestSender_Batch_SessionLostWhilePublishing(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	all := r.create(0, 30)
	slow := r.own(r.replica(batches(10)), 0)
	sendBatch(t, slow)

	inHand, goOn, done := make(chan struct{}), make(chan struct{}), make(chan error)
	slow.sender.Publisher = hooked{Publisher: slow.sender.Publisher, before: func() { close(inHand); <-goOn }}
	go func() {
		_, err := slow.sendBatch(bounded(t))
		done <- err
	}()
	<-inHand
	r.terminate()
	r.drain(r.own(r.replica(batches(10)), 0))
	r.wantInOrder(0, all)
	r.verdict()

	close(goOn)
	if err := <-done; err == nil || !slow.session.Lost() {
		t.Errorf("the slow owner's batch: error %v, session lost %t", err, slow.session.Lost())
	}
	r.wantInOrder(0, all, all[10:20])
	r.wantRow(0, 30)
	r.verdict(all[10:20]...)
}

// After such a crash the log is ahead of next_offset. That is no contradiction, and the partition
// does not halt. Here whole senders run: one dies during a batch, and another one takes over by
// itself.
func TestSender_Crash_Successor(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil)
	all := r.create(0, 30)
	w := newWire(t, r.url)
	passes := 0
	first := r.replica(batches(10), func(c *Config) {
		c.Store = r.open(w.url)
		c.Publisher = hooked{Publisher: c.Publisher, after: func() {
			passes++
			if passes == 2 {
				w.cut()
			}
		}}
	})
	stop := r.run(first)
	until(t, "the first batch is sent and its successor published", func() bool { return len(r.inOrder(0)) == 20 })
	stop()
	r.wantUnsent(0, 20)
	r.run(r.replica(batches(10)))
	r.allSent()
	r.wantInOrder(0, all[:20], all[10:])
	r.wantRow(0, 40)
	r.verdict(all[10:20]...)
}
