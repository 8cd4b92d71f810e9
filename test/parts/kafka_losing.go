package parts

import (
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// LosingBroker is a broker in this process that can lose a transaction's marker as Kafka does: the
// coordinator has decided and said so, the records are in the log, and nothing in there says what
// became of them. Only kfake can be bent to it; what a real broker makes of such a log is tested in
// package kafka.
type LosingBroker struct {
	Addr    string
	cluster *kfake.Cluster

	mu     sync.Mutex
	losing bool
	lost   bool
	// The transaction whose marker is lost, as long as its coordinator takes it for ended.
	hanging *kmsg.EndTxnRequest
	// The last that the hanging transaction's id was given.
	epoch int16
}

// LosingKafka starts such a broker. It loses nothing before LoseNext.
func LosingKafka(t testing.TB) *LosingBroker {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	b := &LosingBroker{Addr: cluster.ListenAddrs()[0], cluster: cluster}
	cluster.ControlKey(int16(kmsg.EndTxn), b.onEnd)
	cluster.ControlKey(int16(kmsg.InitProducerID), b.onInit)
	cluster.ControlKey(int16(kmsg.Produce), b.onProduce)
	return b
}

// LoseNext makes the broker lose the marker of the next transaction that is committed.
func (b *LosingBroker) LoseNext() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.losing, b.lost = true, false
}

// Lost tells whether it has.
func (b *LosingBroker) Lost() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lost
}

// onEnd answers that the transaction is committed, and the epoch that the producer has from now on
// (KIP-890); kfake, which is the log as well, hears nothing of it.
func (b *LosingBroker) onEnd(r kmsg.Request) (kmsg.Response, error, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cluster.KeepControl()
	request := r.(*kmsg.EndTxnRequest)
	if !b.losing || !request.Commit {
		return nil, nil, false
	}
	b.losing, b.lost, b.hanging, b.epoch = false, true, request, request.ProducerEpoch+1
	answer := request.ResponseKind().(*kmsg.EndTxnResponse)
	answer.ProducerID, answer.ProducerEpoch = request.ProducerID, b.epoch
	return answer, nil, true
}

// onInit answers for a coordinator that has nothing under way, where kfake would abort what hangs.
func (b *LosingBroker) onInit(r kmsg.Request) (kmsg.Response, error, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cluster.KeepControl()
	request := r.(*kmsg.InitProducerIDRequest)
	if b.hanging == nil || request.TransactionalID == nil || *request.TransactionalID != b.hanging.TransactionalID {
		// Or kfake would time out what hangs, as no coordinator does.
		request.TransactionTimeoutMillis = int32(10 * time.Minute / time.Millisecond)
		return nil, nil, false
	}
	b.epoch++
	answer := request.ResponseKind().(*kmsg.InitProducerIDResponse)
	answer.ProducerID, answer.ProducerEpoch = b.hanging.ProducerID, b.epoch
	return answer, nil, true
}

// onProduce sees the next transaction begin: from then on the coordinator has something to end
// again.
func (b *LosingBroker) onProduce(r kmsg.Request) (kmsg.Response, error, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	request := r.(*kmsg.ProduceRequest)
	if b.hanging != nil && request.TransactionID != nil && *request.TransactionID == b.hanging.TransactionalID {
		b.hanging = nil
	}
	return nil, nil, false
}
