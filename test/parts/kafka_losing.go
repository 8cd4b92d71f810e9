package parts

import (
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// LosingBroker is a broker in this process that can lose the marker of a transaction as Kafka does.
// The coordinator has decided and responded, the records are in the log, and the marker is not.
// Only kfake can be made to do this. What a real broker does with such a log is tested in package
// kafka.
type LosingBroker struct {
	Addr    string
	cluster *kfake.Cluster

	mu     sync.Mutex
	losing bool
	lost   bool
	// hanging is the transaction whose marker is lost, as long as its coordinator takes it for
	// ended.
	hanging *kmsg.EndTxnRequest
	// epoch is the last one of the hanging transaction's id.
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

// Lost reports whether it has lost one.
func (b *LosingBroker) Lost() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lost
}

// onEnd responds that the transaction is committed, with the producer's next epoch (KIP-890).
// kfake, which is also the log, does not get the request.
func (b *LosingBroker) onEnd(r kmsg.Request) (kmsg.Response, error, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cluster.KeepControl()
	request := r.(*kmsg.EndTxnRequest)
	if !b.losing || !request.Commit {
		return nil, nil, false
	}
	b.losing, b.lost, b.hanging, b.epoch = false, true, request, request.ProducerEpoch+1
	response := request.ResponseKind().(*kmsg.EndTxnResponse)
	response.ProducerID, response.ProducerEpoch = request.ProducerID, b.epoch
	return response, nil, true
}

// onInit responds for a coordinator without an open transaction. kfake would abort the hanging one.
func (b *LosingBroker) onInit(r kmsg.Request) (kmsg.Response, error, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cluster.KeepControl()
	request := r.(*kmsg.InitProducerIDRequest)
	if b.hanging == nil || request.TransactionalID == nil || *request.TransactionalID != b.hanging.TransactionalID {
		// Otherwise kfake would abort the open transaction after a timeout, which no coordinator
		// does.
		request.TransactionTimeoutMillis = int32(10 * time.Minute / time.Millisecond)
		return nil, nil, false
	}
	b.epoch++
	response := request.ResponseKind().(*kmsg.InitProducerIDResponse)
	response.ProducerID, response.ProducerEpoch = b.hanging.ProducerID, b.epoch
	return response, nil, true
}

// onProduce notices that the next transaction begins. From then on the coordinator has a
// transaction to end again.
func (b *LosingBroker) onProduce(r kmsg.Request) (kmsg.Response, error, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	request := r.(*kmsg.ProduceRequest)
	if b.hanging != nil && request.TransactionID != nil && *request.TransactionID == b.hanging.TransactionalID {
		b.hanging = nil
	}
	return nil, nil, false
}
