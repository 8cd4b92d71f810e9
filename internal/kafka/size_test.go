package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/paylatch/paylatch/test/parts"
)

// TestEvent_Size: the size of an event is an upper bound for its bytes in a batch. Otherwise a
// topic that Faults accepts could refuse a batch of BatchBytesMax. The broker reports the size of
// each batch, which is alone in its topic.
func TestEvent_Size(t *testing.T) {
	t.Parallel()
	const batchHeader = 61 // Message format v2: https://kafka.apache.org/documentation/#recordbatch
	bare := Event{Key: []byte("k"), Value: []byte("v")}
	manyHeaders := encode(t, sample(t, 1))
	for range 200 {
		manyHeaders.Headers = append(manyHeaders.Headers, Header{Key: "h", Value: []byte("v")}, Header{})
	}
	for name, events := range map[string][]Event{
		"One":         samples(t, 1),
		"Largest":     {encode(t, largestPayment(t))},
		"Thousand":    samples(t, 1000),
		"Full":        samples(t, Fit(samples(t, 600, largest)), largest),
		"Bare":        {bare, bare, bare},
		"ManyHeaders": {manyHeaders, bare},
	} {
		content, estimate := 0, batchHeader
		for _, e := range events {
			content += len(e.Key) + len(e.Value)
			estimate += e.size()
		}
		got := batchBytes(t, events)
		if got > estimate || got < content {
			t.Errorf("%s: got a batch of %d bytes, want %d to %d", name, got, content, estimate)
		}
		if estimate > BatchBytesMax+BatchOverheadMax {
			t.Errorf("%s: got an estimate of %d bytes, want at most %d", name, estimate, BatchBytesMax+BatchOverheadMax)
		}
	}
}

// batchBytes publishes a batch to a new topic and returns the bytes of that topic on disk.
func batchBytes(t *testing.T, events []Event) int {
	t.Helper()
	broker := parts.Kafka(t)
	topic := newTopic(t, broker, 1, nil)
	publish(t, newLocked(t, broker, topic), 0, events)
	client := newClient(t, broker)
	defer client.Close()
	dirs, err := kadm.NewClient(client).DescribeAllLogDirs(bounded(t), kadm.TopicsSet{topic: {0: {}}})
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	dirs.Each(func(d kadm.DescribedLogDir) {
		if p, ok := d.Topics.Lookup(topic, 0); ok {
			size += int(p.Size)
		}
	})
	return size
}
