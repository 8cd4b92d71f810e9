package kafka

import (
	"context"
	"errors"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// keyProduce is the API key of a produce request. Source:
// https://kafka.apache.org/protocol#protocol_api_keys
const keyProduce = 0

// newFake starts brokers in this process with one topic of one partition. A test chooses their
// responses, which it cannot do with a real broker.
func newFake(t *testing.T, brokers int, options ...kfake.Opt) (cluster *kfake.Cluster, addr string) {
	t.Helper()
	options = append([]kfake.Opt{kfake.NumBrokers(brokers), kfake.SeedTopics(1, fakeTopic)}, options...)
	cluster, err := kfake.NewCluster(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster, cluster.ListenAddrs()[0]
}

const fakeTopic = "payments"

// onProduce fails the next n produce requests with err. Its Hits prove that it did.
func onProduce(cluster *kfake.Cluster, n int, err *kerr.Error) *kfake.FaultHandle {
	return cluster.Fault(kfake.Fault{Keys: []kmsg.Key{keyProduce}, Topic: fakeTopic, Err: err, Count: n})
}

// TestLocked_Publish_Errors checks which errors are refusals. If another error counted as a
// refusal, a partition would halt without a reason. If a refusal did not count as one, the
// partition would retry without end. If the broker appends and still returns an error, the records
// are there: the outcome was unknown.
func TestLocked_Publish_Errors(t *testing.T) {
	t.Parallel()
	cluster, addr := newFake(t, 1)
	l, events := newLocked(t, addr, fakeTopic), samples(t, 5)
	var want []Event
	for _, test := range []struct {
		response          *kerr.Error
		refused, appended bool
	}{
		{response: kerr.NotEnoughReplicas},
		{response: kerr.NotEnoughReplicasAfterAppend, appended: true},
		{response: kerr.RequestTimedOut, appended: true},
		{response: kerr.NotLeaderForPartition},
		{response: kerr.LeaderNotAvailable},
		{response: kerr.UnknownTopicOrPartition},
		{response: kerr.KafkaStorageError},
		{response: kerr.CorruptMessage}, // Damaged in transit: a retry may succeed.
		{response: kerr.TopicAuthorizationFailed},
		{response: kerr.ThrottlingQuotaExceeded},
		{response: kerr.UnknownServerError},
		{response: kerr.MessageTooLarge, refused: true},
		{response: kerr.RecordListTooLarge, refused: true},
		{response: kerr.InvalidRecord, refused: true},
		{response: kerr.InvalidTimestamp}, // By the clock of this process: that of another replica may be right.
		{response: kerr.UnsupportedForMessageFormat, refused: true},
		{response: kerr.PolicyViolation, refused: true},
	} {
		fault := onProduce(cluster, 1, test.response)
		_, err := l.Publish(bounded(t), 0, events)
		if err == nil || isRefused(err) != test.refused || !errors.Is(err, kafkago.Error(test.response.Code)) {
			t.Errorf("%s: got error %v, want one that is a refusal: %t", test.response.Message, err, test.refused)
		}
		if fault.Hits() != 1 {
			t.Errorf("%s: got %d requests, want 1", test.response.Message, fault.Hits())
		}
		if test.appended {
			want = append(want, events...)
		}
		wantRecords(t, addr, fakeTopic, 0, want)
	}
	publish(t, l, 0, events)
	wantRecords(t, addr, fakeTopic, 0, append(want, events...))
}

// TestLocked_Publish_ResponseLost loses the response after the batch was appended. The outcome is
// unknown, which is not a refusal, and Publish must not retry.
func TestLocked_Publish_ResponseLost(t *testing.T) {
	t.Parallel()
	lossy, addr := newLossy(t)
	l, events := newLocked(t, addr, fakeTopic), samples(t, 30)
	publish(t, l, 0, events[:10])

	lossy.loseNext(closeConn)
	_, err := l.Publish(bounded(t), 0, events[10:20])
	if !lossy.hasLost() {
		t.Fatal("got no lost response, want one")
	}
	if err == nil || isRefused(err) {
		t.Errorf("got error %v, want one that is not a refusal", err)
	}
	wantRecords(t, addr, fakeTopic, 0, events[:20])

	if base := publish(t, l, 0, events[20:]); base != 20 {
		t.Errorf("got the next batch at %d, want 20", base)
	}
	wantRecords(t, addr, fakeTopic, 0, events)
}

// TestLocked_Publish_LeaderMoved moves the leader. The old one returns an error, the new one is
// found, and nothing is appended twice.
func TestLocked_Publish_LeaderMoved(t *testing.T) {
	t.Parallel()
	cluster, addr := newFake(t, 3)
	l, events := newLocked(t, addr, fakeTopic), samples(t, 20)
	publish(t, l, 0, events[:10])

	old := cluster.LeaderFor(fakeTopic, 0)
	atOld := cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{keyProduce}, Topic: fakeTopic, Nodes: []int32{old}, Observe: true, Count: -1,
	})
	if err := cluster.MoveTopicPartition(fakeTopic, 0, (old+1)%3); err != nil {
		t.Fatal(err)
	}
	var notLeader bool
	until(t, "published to the new leader", func() bool {
		base, err := l.Publish(bounded(t), 0, events[10:])
		notLeader = notLeader || errors.Is(err, kafkago.NotLeaderForPartition)
		if isRefused(err) || err == nil && base != 10 {
			t.Fatalf("got base %d and error %v, want 10", base, err)
		}
		return err == nil
	})
	if !notLeader || atOld.Hits() == 0 {
		t.Errorf("got %d requests to the old leader, NOT_LEADER %t; want at least one", atOld.Hits(), notLeader)
	}
	wantRecords(t, addr, fakeTopic, 0, events)
}

// TestLocked_Publish_NoResponse has a broker that accepts the request and never responds. Publish
// returns when its context ends. The outcome is unknown.
func TestLocked_Publish_NoResponse(t *testing.T) {
	t.Parallel()
	lossy, addr := newLossy(t)
	l, events := newLocked(t, addr, fakeTopic), samples(t, 20)
	publish(t, l, 0, events[:10])

	lossy.loseNext(keepSilent)
	ctx, cancel := context.WithTimeout(bounded(t), 2*time.Second)
	defer cancel()
	_, err := l.Publish(ctx, 0, events[10:])
	if !lossy.hasLost() {
		t.Fatal("got no lost response, want one")
	}
	if err == nil || isRefused(err) {
		t.Errorf("got error %v, want one that is not a refusal", err)
	}
	wantRecords(t, addr, fakeTopic, 0, events)
}

// TestLocked_Publish_AcksAll: one batch is one request, and it is acknowledged by all in-sync
// replicas.
func TestLocked_Publish_AcksAll(t *testing.T) {
	t.Parallel()
	cluster, addr := newFake(t, 1)
	l, events := newLocked(t, addr, fakeTopic), samples(t, 10)
	acks := make(chan int16, 10)
	requests := cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{keyProduce}, Topic: fakeTopic, Observe: true, Count: -1,
		When: func(r kmsg.Request) bool {
			acks <- r.(*kmsg.ProduceRequest).Acks
			return true
		},
	})
	publish(t, l, 0, events)
	if got := requests.Hits(); got != 1 {
		t.Fatalf("got %d requests for one batch, want 1", got)
	}
	if got := <-acks; got != -1 {
		t.Errorf("got acks=%d, want -1 (all)", got)
	}
}
