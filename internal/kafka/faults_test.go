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

// keyProduce is the API key of a produce request. Source: https://kafka.apache.org/protocol#protocol_api_keys
const keyProduce = 0

// newFake starts brokers of this process, whose answers a test can bend, with one topic of one partition. Only kfake can: a real broker
// gives these answers when it pleases.
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

// onProduce answers the next n produce requests with err; its Hits prove that it did.
func onProduce(cluster *kfake.Cluster, n int, err *kerr.Error) *kfake.FaultHandle {
	return cluster.Fault(kfake.Fault{Keys: []kmsg.Key{keyProduce}, Topic: fakeTopic, Err: err, Count: n})
}

// Which answers say "never", and which say "not known, or not now": taking one of the second kind for a refusal would halt a partition for nothing,
// and one of the first kind the other way round would hold it up for ever. Where the broker appended although it answered with an error, the
// records are there: the outcome was really unknown.
func TestLocked_Publish_Answers(t *testing.T) {
	t.Parallel()
	cluster, addr := newFake(t, 1)
	l, events := newLocked(t, addr, fakeTopic), samples(t, 5)
	var want []Event
	for _, test := range []struct {
		answer            *kerr.Error
		refused, appended bool
	}{
		{answer: kerr.NotEnoughReplicas},
		{answer: kerr.NotEnoughReplicasAfterAppend, appended: true},
		{answer: kerr.RequestTimedOut, appended: true},
		{answer: kerr.NotLeaderForPartition},
		{answer: kerr.LeaderNotAvailable},
		{answer: kerr.UnknownTopicOrPartition},
		{answer: kerr.KafkaStorageError},
		{answer: kerr.CorruptMessage}, // Damaged on the way: sent again, it may arrive whole.
		{answer: kerr.TopicAuthorizationFailed},
		{answer: kerr.ThrottlingQuotaExceeded},
		{answer: kerr.UnknownServerError},
		{answer: kerr.MessageTooLarge, refused: true},
		{answer: kerr.RecordListTooLarge, refused: true},
		{answer: kerr.InvalidRecord, refused: true},
		{answer: kerr.InvalidTimestamp}, // By the clock of this process: another replica's may be right.
		{answer: kerr.UnsupportedForMessageFormat, refused: true},
		{answer: kerr.PolicyViolation, refused: true},
	} {
		fault := onProduce(cluster, 1, test.answer)
		_, err := l.Publish(bounded(t), 0, events)
		if err == nil || isRefused(err) != test.refused || !errors.Is(err, kafkago.Error(test.answer.Code)) {
			t.Errorf("%s: error %v; refused must be %t", test.answer.Message, err, test.refused)
		}
		if fault.Hits() != 1 {
			t.Errorf("%s: the fault fired %d times; one Publish is one request", test.answer.Message, fault.Hits())
		}
		if test.appended {
			want = append(want, events...)
		}
		wantRecords(t, addr, fakeTopic, 0, want)
	}
	publish(t, l, 0, events)
	wantRecords(t, addr, fakeTopic, 0, append(want, events...))
}

// The answer is lost after the batch was appended: the outcome is unknown, so it is no refusal, and Publish must not have tried again by itself.
func TestLocked_Publish_AnswerLost(t *testing.T) {
	t.Parallel()
	lossy, addr := newLossy(t)
	l, events := newLocked(t, addr, fakeTopic), samples(t, 30)
	publish(t, l, 0, events[:10])

	lossy.loseNext(closeConn)
	_, err := l.Publish(bounded(t), 0, events[10:20])
	if !lossy.hasLost() {
		t.Fatal("no answer was lost: nothing was tested")
	}
	if err == nil || isRefused(err) {
		t.Errorf("the answer was lost, and the error is %v", err)
	}
	wantRecords(t, addr, fakeTopic, 0, events[:20])

	if base := publish(t, l, 0, events[20:]); base != 20 {
		t.Errorf("the next batch is at %d, want 20", base)
	}
	wantRecords(t, addr, fakeTopic, 0, events)
}

// A leader that moved: the old one says so, nothing is appended twice, and the new one is found.
func TestLocked_Publish_LeaderMoved(t *testing.T) {
	t.Parallel()
	cluster, addr := newFake(t, 3)
	l, events := newLocked(t, addr, fakeTopic), samples(t, 20)
	publish(t, l, 0, events[:10])

	old := cluster.LeaderFor(fakeTopic, 0)
	atOld := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{keyProduce}, Topic: fakeTopic, Nodes: []int32{old}, Observe: true, Count: -1})
	if err := cluster.MoveTopicPartition(fakeTopic, 0, (old+1)%3); err != nil {
		t.Fatal(err)
	}
	var notLeader bool
	until(t, "published to the new leader", func() bool {
		base, err := l.Publish(bounded(t), 0, events[10:])
		notLeader = notLeader || errors.Is(err, kafkago.NotLeaderForPartition)
		if isRefused(err) || err == nil && base != 10 {
			t.Fatalf("base %d, error %v", base, err)
		}
		return err == nil
	})
	if !notLeader || atOld.Hits() == 0 {
		t.Errorf("the old leader was asked %d times and answered NOT_LEADER: %t; nothing was tested", atOld.Hits(), notLeader)
	}
	wantRecords(t, addr, fakeTopic, 0, events)
}

// A broker that takes the request and never answers: Publish comes back when its context ends, with an outcome that is unknown.
func TestLocked_Publish_NoAnswer(t *testing.T) {
	t.Parallel()
	lossy, addr := newLossy(t)
	l, events := newLocked(t, addr, fakeTopic), samples(t, 20)
	publish(t, l, 0, events[:10])

	lossy.loseNext(keepSilent)
	ctx, cancel := context.WithTimeout(bounded(t), 2*time.Second)
	defer cancel()
	_, err := l.Publish(ctx, 0, events[10:])
	if !lossy.hasLost() {
		t.Fatal("no answer was lost: nothing was tested")
	}
	if err == nil || isRefused(err) {
		t.Errorf("no answer came, and the error is %v", err)
	}
	wantRecords(t, addr, fakeTopic, 0, events)
}

// What is asked of the broker: that all in-sync replicas have the batch before it is acknowledged, in one request of one batch.
func TestLocked_Publish_AsksForAllReplicas(t *testing.T) {
	t.Parallel()
	cluster, addr := newFake(t, 1)
	l, events := newLocked(t, addr, fakeTopic), samples(t, 10)
	acks := make(chan int16, 10)
	seen := kfake.Fault{Keys: []kmsg.Key{keyProduce}, Topic: fakeTopic, Observe: true, Count: -1, When: func(r kmsg.Request) bool {
		acks <- r.(*kmsg.ProduceRequest).Acks
		return true
	}}
	requests := cluster.Fault(seen)
	publish(t, l, 0, events)
	if got := requests.Hits(); got != 1 {
		t.Fatalf("%d requests for one batch", got)
	}
	if got := <-acks; got != -1 {
		t.Errorf("acks=%d, want -1 (all)", got)
	}
}
