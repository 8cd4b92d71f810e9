package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/paylatch/paylatch/test/parts"
)

// The size that Fit counts with must be no less than what a record takes, or a batch of BatchBytesMax would be refused by a topic that Faults
// found fit. Each batch is weighed by the broker, as all that a topic holds.
func TestEvent_SizeIsNoLessThanInABatch(t *testing.T) {
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
		weighed := weigh(t, events)
		if weighed > estimate || weighed < content {
			t.Errorf("%s: the batch takes %d bytes, estimated %d, of which %d are keys and values", name, weighed, estimate, content)
		}
		if estimate > BatchBytesMax+BatchOverheadMax {
			t.Errorf("%s: %d bytes, more than Faults asks of a topic", name, estimate)
		}
	}
}

// weigh publishes a batch to a topic of its own and returns how many bytes that topic has on disk.
func weigh(t *testing.T, events []Event) int {
	t.Helper()
	broker := parts.Kafka(t)
	topic := newTopic(t, broker, 1, nil)
	publish(t, newLocked(t, broker, topic), 0, events)
	client := judge(t, broker)
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
