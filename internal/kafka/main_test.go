package kafka

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/test/parts"
)

func TestMain(m *testing.M) { parts.Main(m) }

// waitTimeout bounds every wait of these tests. No test asserts how long a wait took.
const waitTimeout = time.Minute

func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), waitTimeout)
	t.Cleanup(cancel)
	return ctx
}

// until calls ok until it returns true, or fails the test.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for ctx := bounded(t); !ok(); time.Sleep(20 * time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatalf("got no success within %s, want: %s", waitTimeout, what)
		}
	}
}

func newCluster(t testing.TB, broker string) *Cluster {
	t.Helper()
	c, err := NewCluster(brokers.At(broker))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newLocked(t testing.TB, broker, topic string) *Locked {
	t.Helper()
	l := NewLocked(brokers.At(broker), topic, 8*time.Second)
	t.Cleanup(l.Close)
	return l
}

// newClient returns a read_committed client that does not use this package.
func newClient(t testing.TB, broker string, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	options = append(options, kgo.SeedBrokers(broker), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	c, err := kgo.NewClient(options...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// newTopic creates a topic for the test. It returns its name once it has leaders.
func newTopic(t testing.TB, broker string, partitions int32, settings map[string]string) string {
	t.Helper()
	topic, configs := parts.Topic(), map[string]*string{}
	for key, value := range settings {
		configs[key] = &value
	}
	client := newClient(t, broker)
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopic(bounded(t), partitions, -1, configs, topic); err != nil {
		t.Fatal(err)
	}
	awaitTopic(t, broker, topic)
	return topic
}

func awaitTopic(t testing.TB, broker, topic string) {
	t.Helper()
	c := newCluster(t, broker)
	until(t, "topic "+topic+" has leaders", func() bool {
		_, err := c.Ranges(bounded(t), topic)
		return err == nil
	})
}

// records reads one partition from its start to its end.
func records(t testing.TB, broker, topic string, partition int32) []*kgo.Record {
	t.Helper()
	r, err := newCluster(t, broker).Range(bounded(t), topic, partition)
	if err != nil {
		t.Fatal(err)
	}
	from := map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(r.Start)}}
	client := newClient(t, broker, kgo.ConsumePartitions(from))
	defer client.Close()
	ctx := bounded(t)
	var got []*kgo.Record
	for next := r.Start; next < r.End; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%s/%d at %d of %d: %v", topic, partition, next, r.End, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { got, next = append(got, r), r.Offset+1 })
	}
	return got
}

// wantRecords checks that a partition holds exactly these events, in this order.
func wantRecords(t testing.TB, broker, topic string, partition int32, want []Event) {
	t.Helper()
	got := records(t, broker, topic, partition)
	if len(got) != len(want) {
		t.Fatalf("got %d records, want %d", len(got), len(want))
	}
	for i, r := range got {
		if string(r.Key) != string(want[i].Key) || string(r.Value) != string(want[i].Value) {
			t.Errorf("record %d: got key %q and %d bytes, want key %q and %d bytes",
				i, r.Key, len(r.Value), want[i].Key, len(want[i].Value))
		}
		if offset := got[0].Offset + int64(i); r.Offset != offset {
			t.Errorf("record %d: got offset %d, want %d", i, r.Offset, offset)
		}
		same := func(a kgo.RecordHeader, b Header) bool { return a.Key == b.Key && string(a.Value) == string(b.Value) }
		if !slices.EqualFunc(r.Headers, want[i].Headers, same) {
			t.Errorf("record %d: got headers %q, want %q", i, r.Headers, want[i].Headers)
		}
	}
}

// sample returns a valid payment as the database returns it, the n-th of its partition.
func sample(t testing.TB, n int, changes ...func(*payment.Content)) payment.Payment {
	t.Helper()
	c := payment.Content{
		Amount: "25687", Currency: "USD",
		Originator:  payment.PartyContent{ID: "567", Name: "Yolanda Quist"},
		Beneficiary: payment.PartyContent{ID: "123", Name: `Xavier "X" Zörk & <Co>`},
		Sender:      payment.AccountContent{Type: "checking", Number: "765543322"},
		Receiver:    payment.AccountContent{Type: "iban", Number: "DE89370400440532013000"},
		Reference:   new("INV-7"),
	}
	for _, change := range changes {
		change(&c)
	}
	key, err := payment.ParseKey("order-" + strconv.Itoa(n))
	if err != nil {
		t.Fatal(err)
	}
	p, err := payment.New(payment.Tenant{TenantRef: payment.TenantRef{ID: 7, Name: "acme"}}, key, c)
	if err != nil {
		t.Fatal(err)
	}
	p.Seq, p.CreatedAt = int64(n), time.Date(2026, 11, 23, 12, 0, 0, 123_456_000, time.UTC)
	return p
}

// largest makes a content the largest that payment.New accepts. Each field is at its bound, with
// characters of four bytes, or of one byte that JSON escapes, where they are allowed.
func largest(c *payment.Content) {
	wide := func(n int) string { return strings.Repeat("\U0001D538", n) }
	party := payment.PartyContent{ID: strings.Repeat(`"`, 35), Name: wide(140)}
	account := payment.AccountContent{Type: strings.Repeat("a", 35), Number: strings.Repeat(`"`, 34)}
	*c = payment.Content{
		Amount: "999999999999999", Currency: "USD", Originator: party, Beneficiary: party,
		Sender: account, Receiver: account, Reference: new(wide(35)),
	}
}

func encode(t testing.TB, p payment.Payment) Event {
	t.Helper()
	e, err := NewEncoder("/paylatch").Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// samples returns n events of different payments.
func samples(t testing.TB, n int, changes ...func(*payment.Content)) []Event {
	t.Helper()
	events := make([]Event, n)
	for i := range events {
		events[i] = encode(t, sample(t, i, changes...))
	}
	return events
}
