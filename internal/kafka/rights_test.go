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

	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/test/parts"
)

// guarded is a topic on a broker that allows only what a test grants.
type guarded struct {
	*parts.GuardedBroker
	topic string
	// id is a transactional id in the form of those of partitions.
	id string
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

// ofSender returns the rights that docs/rights.md gives a sender.
func (g guarded) ofSender() []parts.ACL {
	return []parts.ACL{
		g.onTopic(kadm.OpRead), g.onTopic(kadm.OpWrite), g.onTopic(kadm.OpDescribeConfigs),
		g.onTransactions(kadm.OpWrite),
		{Operation: kadm.OpClusterAction, Resource: "cluster"},
	}
}

// tried returns the missing rights and the warnings that TryRights reports.
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
				t.Errorf("got error %q, want the purpose of %v in it", err, r)
			}
		}
	}
	return append(reports, warnings...)
}

// wantTried waits until TryRights reports exactly lines with these prefixes. A broker takes a
// moment to apply a change.
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

// TestTryRights revokes each right of a sender in turn. TryRights reports that right, and nothing
// if none is missing.
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
		{
			parts.ACL{Operation: kadm.OpClusterAction, Resource: "cluster"},
			[]string{"the Kafka principal lacks a right: ClusterAction"},
		},
	} {
		g.Revoke(t, row.without)
		wantTried(t, c, g.topic, g.id, row.want...)
		g.Grant(t, row.without)
		wantTried(t, c, g.topic, g.id)
	}

	g.Grant(t, g.onTransactions(kadm.OpDescribe))
	g.Revoke(t, g.onTransactions(kadm.OpWrite))
	wantTried(t, c, g.topic, g.id, "Write"+onID) // Only a request of a producer needs it.
}

// TestTryRights_NoEffect calls TryRights during a transaction of the same transactional id. The
// producer is not fenced, the transaction is not aborted, and nothing is written to the log.
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
		t.Errorf("got end %d, stable end %d, error %v; want 3 and 0", r.End, r.StableEnd, err)
	}
	if err := p.Commit(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if err := p.AwaitStable(bounded(t), 4); err != nil {
		t.Fatal(err)
	}
	wantSeen(t, broker, topic, events...)
}

// TestCreateTopic_WithoutRight: CreateTopic needs the right Create only if there is no topic. The
// error names the missing right.
func TestCreateTopic_WithoutRight(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	c := newCluster(t, g.Addr)
	g.Grant(t, g.onTopic(kadm.OpDescribe))
	until(t, "the topic is found", func() bool { return c.CreateTopic(bounded(t), g.topic, 1, 1) == nil })
	if err := c.GrowTopic(bounded(t), g.topic, 1); err != nil {
		t.Errorf("a topic that has the partitions: got error %v, want none", err)
	}
	wantMissing(t, c.GrowTopic(bounded(t), g.topic, 2), "Alter on topic "+g.topic)

	g.DeleteTopic(t, g.topic)
	var err error
	until(t, "the topic is gone", func() bool {
		err = c.CreateTopic(bounded(t), g.topic, 1, 1)
		return err != nil
	})
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
		t.Errorf("got error %v, want a missing right: %s", err, right)
	}
}

// TestCoordinatorNotAvailable: if the brokers have no coordinator, the error names the setting that
// is the usual cause. One broker has none if __transaction_state needs three replicas.
func TestCoordinatorNotAvailable(t *testing.T) {
	t.Parallel()
	cluster, addr := newFake(t, 1)
	fault := cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.FindCoordinator}, Err: kerr.CoordinatorNotAvailable, Count: -1,
	})
	const setting = "transaction.state.log.replication.factor"
	warnings, err := newCluster(t, addr).TryRights(bounded(t), fakeTopic, "payments-0-a")
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], setting) {
		t.Errorf("got warnings %q and error %v, want one warning with %s", warnings, err, setting)
	}
	_, err = NewFencer(brokers.At(addr), fakeTopic, time.Second).Fence(bounded(t), 0, "payments-0-a")
	if err == nil || !strings.Contains(err.Error(), setting) {
		t.Errorf("got error %v, want one with %s", err, setting)
	}
	if fault.Hits() == 0 {
		t.Error("got no request for a coordinator, want one")
	}
}
