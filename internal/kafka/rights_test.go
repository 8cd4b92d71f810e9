package kafka

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/paylatch/paylatch/test/parts"
)

// guarded is a topic on a broker that grants nothing but what a test grants.
type guarded struct {
	*parts.GuardedBroker
	topic string
	id    string // A transactional id as partitions have it.
}

func newGuarded(t testing.TB) guarded {
	t.Helper()
	g := guarded{GuardedBroker: parts.GuardedKafka(t), topic: parts.Topic()}
	g.id = g.topic + "-0-0123456789abcdef"
	g.CreateTopic(t, g.topic, 1)
	return g
}

func (g guarded) onTopic(o kadm.ACLOperation) parts.ACL {
	return parts.ACL{Operation: o, Resource: "topic " + g.topic}
}

func (g guarded) onTransactions(o kadm.ACLOperation) parts.ACL {
	return parts.ACL{Operation: o, Resource: "transactional-id " + g.topic + "-"}
}

// ofSender are the rights that docs/operations.md gives a sender.
func (g guarded) ofSender() []parts.ACL {
	return []parts.ACL{
		g.onTopic(kadm.OpRead), g.onTopic(kadm.OpWrite), g.onTopic(kadm.OpDescribeConfigs), g.onTransactions(kadm.OpWrite),
		{Operation: kadm.OpClusterAction, Resource: "cluster"},
	}
}

// tried is what TryRights reports, in a form that can be compared: each missing right, and what the warnings say.
func tried(t testing.TB, c *Cluster, topic, id string) (reports []string) {
	t.Helper()
	warnings, err := c.TryRights(bounded(t), topic, id)
	missing, ok := errors.AsType[*MissingRightsError](err)
	if err != nil && !ok {
		return []string{err.Error()}
	}
	if ok {
		for _, r := range missing.Rights {
			reports = append(reports, r.Operation+" on "+r.Resource)
			if !strings.Contains(err.Error(), r.String()) || r.Purpose == "" {
				t.Errorf("%q does not say what %v is for", err, r)
			}
		}
	}
	return append(reports, warnings...)
}

// wantTried waits until TryRights reports the given beginnings, and nothing else: a broker takes a moment to apply a change.
func wantTried(t testing.TB, c *Cluster, topic, id string, want ...string) {
	t.Helper()
	var got []string
	defer func() {
		if t.Failed() {
			t.Logf("got %q, want %q", got, want)
		}
	}()
	until(t, fmt.Sprintf("%q is reported", want), func() bool {
		got = tried(t, c, topic, id)
		return slices.EqualFunc(got, want, strings.HasPrefix)
	})
}

// TestTryRights takes each right of a sender away in turn, and wants it named; with all of them nothing is reported.
func TestTryRights(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	c := newCluster(t, g.Addr)
	onID := " on transactional-id " + g.id
	wantTried(t, c, g.topic, g.id, "Describe on topic "+g.topic, "Describe"+onID, "Write"+onID)
	wantTried(t, c, g.topic, "", "Describe on topic "+g.topic)

	g.Grant(t, g.ofSender()...)
	wantTried(t, c, g.topic, g.id)
	for _, row := range []struct {
		without parts.ACL
		want    []string
	}{
		{g.onTopic(kadm.OpRead), []string{"Read on topic " + g.topic}},
		{g.onTopic(kadm.OpWrite), []string{"Write on topic " + g.topic}},
		{g.onTopic(kadm.OpDescribeConfigs), []string{"DescribeConfigs on topic " + g.topic}},
		{g.onTransactions(kadm.OpWrite), []string{"Describe" + onID, "Write" + onID}},
		{parts.ACL{Operation: kadm.OpClusterAction, Resource: "cluster"}, []string{"the Kafka principal lacks a right: ClusterAction"}},
	} {
		g.Revoke(t, row.without)
		wantTried(t, c, g.topic, g.id, row.want...)
		g.Grant(t, row.without)
		wantTried(t, c, g.topic, g.id)
	}

	g.Grant(t, g.onTransactions(kadm.OpDescribe))
	g.Revoke(t, g.onTransactions(kadm.OpWrite))
	wantTried(t, c, g.topic, g.id, "Write"+onID) // Which no request but that of a producer needs.
}

// TestTryRights_NoEffect tries the rights of a transactional id while its producer has a transaction under way: it is
// neither fenced nor aborted, and nothing is written to the log.
func TestTryRights_NoEffect(t *testing.T) {
	t.Parallel()
	broker := parts.Kafka(t)
	topic := newTopic(t, broker, 1, nil)
	c := newCluster(t, broker)
	p := fence(t, broker, topic)
	events := samples(t, 3)
	if err := p.Produce(bounded(t), 0, events); err != nil {
		t.Fatal(err)
	}
	wantTried(t, c, topic, p.transactionalID)
	if r, err := c.Range(bounded(t), topic, 0); err != nil || r.End != 3 || r.StableEnd != 0 {
		t.Errorf("the log ends at %d and is stable up to %d, %v; want 3 and 0", r.End, r.StableEnd, err)
	}
	if err := p.Commit(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if err := p.Settled(bounded(t), 4); err != nil {
		t.Fatal(err)
	}
	wantSeen(t, broker, topic, events...)
}

// TestCreateTopic_WithoutRight: who finds the topic needs no right to create it, and who does not is told which.
func TestCreateTopic_WithoutRight(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	c := newCluster(t, g.Addr)
	g.Grant(t, g.onTopic(kadm.OpDescribe))
	until(t, "the topic is found", func() bool { return c.CreateTopic(bounded(t), g.topic, 1, 1) == nil })
	if err := c.GrowTopic(bounded(t), g.topic, 1); err != nil {
		t.Errorf("a topic that has the partitions: %v", err)
	}
	wantMissing(t, c.GrowTopic(bounded(t), g.topic, 2), "Alter on topic "+g.topic)

	g.DeleteTopic(t, g.topic)
	var err error
	until(t, "the topic is gone", func() bool { err = c.CreateTopic(bounded(t), g.topic, 1, 1); return err != nil })
	wantMissing(t, err, "Create on topic "+g.topic)
	g.Grant(t, g.onTopic(kadm.OpCreate))
	until(t, "the topic is created", func() bool {
		_ = c.CreateTopic(bounded(t), g.topic, 1, 1)
		_, err := c.metadata(bounded(t), g.topic)
		return err == nil
	})
}

func wantMissing(t testing.TB, err error, right string) {
	t.Helper()
	missing, ok := errors.AsType[*MissingRightsError](err)
	if !ok || len(missing.Rights) != 1 || !strings.HasPrefix(missing.Rights[0].String(), right+", needed to ") {
		t.Errorf("error is %v, want that %s is missing", err, right)
	}
}

// TestCoordinatorNotAvailable: a broker that cannot have a coordinator, as one alone that __transaction_state must have
// three replicas of, is reported with the setting that mostly is the cause.
func TestCoordinatorNotAvailable(t *testing.T) {
	t.Parallel()
	cluster, addr := newFake(t, 1)
	fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.FindCoordinator}, Err: kerr.CoordinatorNotAvailable, Count: -1})
	const setting = "transaction.state.log.replication.factor"
	warnings, err := newCluster(t, addr).TryRights(bounded(t), fakeTopic, "payments-0-a")
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], setting) {
		t.Errorf("warnings %q, error %v; want one that names %s", warnings, err, setting)
	}
	_, err = NewFencer([]string{addr}, fakeTopic, time.Second).Fence(bounded(t), 0, "payments-0-a")
	if err == nil || !strings.Contains(err.Error(), setting) {
		t.Errorf("error is %v, want one that names %s", err, setting)
	}
	if fault.Hits() == 0 {
		t.Error("the broker was not asked for a coordinator")
	}
}
