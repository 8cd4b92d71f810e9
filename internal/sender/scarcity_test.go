package sender

import (
	"errors"
	"fmt"
	"net/url"
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// limited returns a store with a role of its own that may have this many connections.
func (r *rig) limited(connections int) (s *store.Store, role string) {
	r.t.Helper()
	u, err := url.Parse(r.url)
	if err != nil {
		r.t.Fatal(err)
	}
	role = "few_" + u.Path[1:] // The database is the test's own.
	r.exec(fmt.Sprintf(`create role %s login password 'few' connection limit %d`, role, connections))
	r.exec(`grant all on all tables in schema public to ` + role)
	r.exec(`grant all on all sequences in schema public to ` + role)
	r.t.Cleanup(func() {
		r.exec(`drop owned by ` + role)
		r.exec(`drop role ` + role)
	})
	u.User = url.UserPassword(role, "few")
	return r.open(u.String()), role
}

// TestSender_Scarce: a role may have fewer connections than there are partitions. All partitions
// are served, again and again, and each payment is sent once. The connections that are needed and
// allowed are measured. When the limit is lifted, each partition has an owner again.
func TestSender_Scarce(t *testing.T) {
	t.Parallel()
	const limit = 6
	r := newRig(t, 12, nil)
	few, role := r.limited(limit)
	s := r.replica(func(c *Config) { c.Store = few })
	r.run(s)
	for range 3 {
		for p := range r.partitions {
			r.create(p, 2)
		}
		r.allSent()
	}
	r.verdict()
	r.wantScarce(s, limit, 12+sessionsOfReplica+few.ConnectionsMax())
	r.exec(`alter role ` + role + ` connection limit -1`)
	r.wantShares(12, s)
}

// wantScarce checks that the replica was refused sessions, and that it reports the connections.
func (r *rig) wantScarce(s replica, allowed, needed int) {
	r.t.Helper()
	if s.value("paylatch_sender_sessions_refused_total") == 0 {
		r.t.Error("no session was refused: the limit had no effect")
	}
	for name, want := range map[string]int{
		"paylatch_sender_connections_allowed": allowed,
		"paylatch_sender_connections_needed":  needed,
	} {
		if got := int(s.value(name)); got != want {
			r.t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
}

// TestSender_Scarce_TwoReplicas: two replicas share the connections that a role may have, and
// neither has its fair share. A connection that one releases the other may take, in fenced
// delivery, too.
func TestSender_Scarce_TwoReplicas(t *testing.T) {
	t.Parallel()
	r := newRig(t, 12, nil)
	few, _ := r.limited(8)
	fenced := r.inFenced()
	a, b := r.replica(fenced, func(c *Config) { c.Store = few }), r.replica(fenced, func(c *Config) { c.Store = few })
	r.run(a)
	r.run(b)
	for range 2 {
		for p := range r.partitions {
			r.create(p, 2)
		}
		r.allSent()
	}
	r.verdict()
	if a.value("paylatch_sender_sessions_refused_total")+b.value("paylatch_sender_sessions_refused_total") == 0 {
		t.Error("no session was refused: the limit had no effect")
	}
}

// TestSender_Scarce_Pool: the pool of a process has lost its connections, and its owners have all
// that the role may have. One of them releases its partition, and no other takes that connection
// first. A payment is taken, and sent. In fenced delivery an owner cannot start without the pool.
func TestSender_Scarce_Pool(t *testing.T) {
	t.Parallel()
	const limit = 6
	r := newRig(t, 12, nil)
	few, role := r.limited(limit)
	r.run(r.replica(func(c *Config) { c.Store = few }))
	owned := func() int { return r.count(`select count(distinct objid) ` + sessionsOfPartitions) }
	until(t, "the owners have all that there is", func() bool {
		r.exec(`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'paylatch'
			and usename = $1`, role)
		return owned() == limit-1
	})
	refused := 0
	until(t, "a payment is taken", func() bool {
		_, _, err := few.Create(bounded(t), r.payment(0))
		if err != nil && !errors.Is(err, payment.ErrUnavailable) {
			t.Fatal(err)
		}
		if err != nil {
			refused++
		}
		return err == nil
	})
	if refused == 0 {
		t.Error("got no refused payment, want some: the pool had connections all the time")
	}
	// There are fewer for a moment while the partitions are served in rotation.
	until(t, "only one connection is left to the pool", func() bool { return owned() >= limit-2 })
	r.allSent()
}
