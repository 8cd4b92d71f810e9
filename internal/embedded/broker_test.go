package embedded

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const topic = "payments"

func startBroker(t *testing.T, c BrokerConfig) *Broker {
	t.Helper()
	b, err := StartBroker(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Stop() })
	return b
}

func client(t *testing.T, b *Broker, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(options, kgo.SeedBrokers(b.Addr()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func kafkaContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func createTopic(t *testing.T, b *Broker) {
	t.Helper()
	c := client(t, b)
	defer c.Close()
	if _, err := kadm.NewClient(c).CreateTopic(kafkaContext(t), 2, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
}

func produce(t *testing.T, b *Broker, values ...string) {
	t.Helper()
	c := client(t, b, kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer c.Close()
	for _, value := range values {
		record := &kgo.Record{Topic: topic, Partition: 1, Value: []byte(value)}
		if err := c.ProduceSync(kafkaContext(t), record).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// consume reads the partition from its start until it has n records.
func consume(t *testing.T, b *Broker, n int) string {
	t.Helper()
	from := map[string]map[int32]kgo.Offset{topic: {1: kgo.NewOffset().AtStart()}}
	c := client(t, b, kgo.ConsumePartitions(from), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	defer c.Close()
	ctx := kafkaContext(t)
	var values []string
	for len(values) < n {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %q: %v", values, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	return strings.Join(values, " ")
}

// Records acknowledged before a stop are there after it, also under another address.
func TestBroker_RecordsAreKept(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "broker")
	b := startBroker(t, BrokerConfig{Dir: dir, Listen: "127.0.0.1:0"})
	createTopic(t, b)
	produce(t, b, "one", "two")
	for range 2 {
		if err := b.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	again := startBroker(t, BrokerConfig{Dir: dir, Listen: "localhost:0"})
	if again.Addr() == b.Addr() {
		t.Fatalf("the same address %s: the test wants another", b.Addr())
	}
	produce(t, again, "three")
	if got := consume(t, again, 3); got != "one two three" {
		t.Errorf("got %q", got)
	}
	if err := again.Stop(); err != nil {
		t.Fatal(err)
	}
	first := startBroker(t, BrokerConfig{Dir: dir, Listen: b.Addr()})
	if got := consume(t, first, 3); got != "one two three" {
		t.Errorf("back under the first address: got %q", got)
	}
}

func TestBroker_InMemory(t *testing.T) {
	t.Parallel()
	b := startBroker(t, BrokerConfig{Listen: "127.0.0.1:0"})
	createTopic(t, b)
	produce(t, b, "one")
	if got := consume(t, b, 1); got != "one" {
		t.Errorf("got %q", got)
	}
}

// A misspelt topic must be an error, not a new topic.
func TestBroker_TopicsAreNotMadeByBeingNamed(t *testing.T) {
	t.Parallel()
	b := startBroker(t, BrokerConfig{Listen: "127.0.0.1:0"})
	c := client(t, b, kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(1))
	if err := c.ProduceSync(kafkaContext(t), &kgo.Record{Topic: "misspelt"}).FirstErr(); err == nil {
		t.Error("produced")
	}
	topics, err := kadm.NewClient(c).ListTopics(kafkaContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if topics.Has("misspelt") && topics["misspelt"].Err == nil {
		t.Error("the topic was made")
	}
}

func TestBroker_Refusals(t *testing.T) {
	t.Parallel()
	running := startBroker(t, BrokerConfig{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	dir := t.TempDir()
	startBroker(t, BrokerConfig{Dir: dir, Listen: "127.0.0.1:0"})
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := t.TempDir()
	if err := os.MkdirAll(filepath.Join(damaged, "kafka"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(damaged, "kafka", "meta.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		config BrokerConfig
		kind   error
		says   string
	}{
		"PortInUse":   {BrokerConfig{Listen: running.Addr()}, ErrPortInUse, "choose another port"},
		"DirInUse":    {BrokerConfig{Dir: dir, Listen: "127.0.0.1:0"}, ErrDirInUse, "another directory"},
		"NoDir":       {BrokerConfig{Dir: filepath.Join(file, "x"), Listen: "127.0.0.1:0"}, nil, "this user may write"},
		"Damaged":     {BrokerConfig{Dir: damaged, Listen: "127.0.0.1:0"}, nil, "could not start"},
		"NoPort":      {BrokerConfig{Listen: "127.0.0.1"}, nil, "like 127.0.0.1:9092"},
		"BadPort":     {BrokerConfig{Listen: "127.0.0.1:99999"}, nil, "0 to 65535"},
		"NotLoopback": {BrokerConfig{Listen: "0.0.0.0:0"}, nil, "loopback only"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := StartBroker(test.config)
			if err == nil {
				_ = b.Stop()
				t.Fatal("started")
			}
			if test.kind != nil && !errors.Is(err, test.kind) {
				t.Errorf("error %q is not %q", err, test.kind)
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %q does not say %q", err, test.says)
			}
		})
	}
	if conn, err := net.Dial("tcp", running.Addr()); err != nil {
		t.Errorf("the running broker suffered: %v", err)
	} else {
		_ = conn.Close()
	}
}
