package sender

import (
	"testing"

	"github.com/paylatch/paylatch/test/parts"
)

// Run is asked to end while a batch is being published. The batch is finished and marked, nothing
// is repeated, and all partitions are released.
func TestSender_Run_FinishesBatch(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, nil)
	first := r.create(0, 10)
	inHand, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	s := r.replica(func(c *Config) {
		c.Publisher = hooked{Publisher: c.Publisher, before: func() { close(inHand); <-goOn }}
	})
	stop := r.run(s)
	<-inHand
	go func() {
		defer close(ended)
		stop()
	}()
	until(t, "the other partition is given back",
		func() bool { return r.count(`select count(*) `+sessionsOfPartitions) == 1 })
	select {
	case <-ended:
		t.Error("Run has returned with a batch in progress")
	default:
	}
	r.wantUnsent(0, 10)
	close(goOn)
	<-ended
	r.wantInOrder(0, first)
	r.wantRow(0, 10)
	r.verdict()
	if n := r.count(`select count(*) `+sessionsOfPartitions) + r.count(`select count(*) `+sessionsOfReplicas); n > 0 {
		until(t, "all sessions are gone", func() bool { // The server takes a moment to notice.
			return r.count(`select count(*) `+sessionsOfPartitions)+r.count(`select count(*) `+sessionsOfReplicas) == 0
		})
	}
	if owned := s.value("paylatch_sender_partitions_owned"); owned != 0 {
		t.Errorf("the metric says %v partitions are owned", owned)
	}
}

// Run is asked to end with nothing to do, before it has begun, and twice. It returns.
func TestSender_Run_Ends(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, nil)
	for range 10 {
		r.run(r.replica())()
	}
	s := r.replica()
	stop := r.run(s)
	r.wantShares(3, s)
	stop()
	r.create(0, 3)
	r.run(r.replica())
	r.allSent()
	r.verdict()
}

// The broker goes away under load. Payments are still taken. The senders deregister, since another
// replica may do better. When the broker is back, all payments are sent, and none is lost. A batch
// whose response was lost with the broker may be repeated.
func TestSender_BrokerAway(t *testing.T) {
	t.Parallel()
	broker := parts.OwnKafka(t)
	r := newRigOn(t, broker.Addr, 3, nil)
	load := r.load(300)
	a, b := r.replica(), r.replica()
	r.run(a)
	r.run(b)
	until(t, "both count", func() bool { return r.count(`select count(*) `+sessionsOfReplicas) == 2 })
	load.more(50)

	broker.Stop(t)
	load.more(50)
	until(t, "the senders leave the head count",
		func() bool { return r.count(`select count(*) `+sessionsOfReplicas) == 0 })
	waiting := r.count(`select count(*) from payments where status = 'created'`)
	load.more(50)
	if now := r.count(`select count(*) from payments where status = 'created'`); waiting == 0 || now <= waiting {
		t.Errorf("%d payments waited, then %d: they were not taken while the broker was away", waiting, now)
	}
	for p := range r.partitions {
		if row := r.row(p); row.Reason != "" {
			t.Errorf("partition %d halted for a broker that was away: %s", p, row.Reason)
		}
	}

	broker.Start(t)
	load.end()
	r.verdictAtLeastOnce(2)
}

// The database goes away while senders run, or before they start. They go on by themselves when it
// is back.
func TestSender_DatabaseAway(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, nil)
	all := r.create(0, 5)
	w := newWire(t, r.url)
	s := r.replica(func(c *Config) { c.Store = r.open(w.url) })
	w.cut()
	stop := r.run(s)
	until(t, "it was turned away", func() bool { return w.turnedAway() >= 2 })
	w.mend()
	r.allSent()
	w.cut()
	more := r.create(0, 5)
	until(t, "it is cut off", func() bool { return r.count(`select count(*) `+sessionsOfReplicas) == 0 })
	r.wantUnsent(0, 5)
	w.mend()
	r.allSent()
	stop()
	r.wantInOrder(0, all, more)
	r.verdict()
}

// The database vanishes without closing connections, as in a power failure and a failover behind
// one name. No connection is closed, none responds, and new ones work. No wait may be endless.
func TestSender_DatabaseSilent(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, nil)
	all := r.create(0, 5)
	w := newWire(t, r.url)
	stop := r.run(r.replica(func(c *Config) { c.Store = r.open(w.url) }))
	r.allSent()
	w.silence()
	more := r.create(0, 5)
	r.allSent()
	stop()
	r.wantInOrder(0, all, more)
	r.verdict()
}
