package secure

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/journal"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/test/parts"
)

// publishTimeout bounds one attempt to publish.
const publishTimeout = 8 * time.Second

// clients are the Kafka clients of the project. Each does its work on a topic, in which the ones
// before have left records.
var clients = []struct {
	name string
	work func(ctx context.Context, access *brokers.Access, topic string) error
}{
	{"admin", createTopic},
	{"fenced", publishFenced},
	{"locked", publishLocked},
	{"log reader", readLog},
	{"payclient", readAsPayclient},
}

// batch is what a client of the table leaves in the topic.
const batch = 3

// TestTable: each client of the project works with each way to connect. The one exception is locked
// delivery with OAUTHBEARER, which the configuration refuses (TestLocked_OAuthBearer).
func TestTable(t *testing.T) {
	t.Parallel()
	b := parts.SecureKafka(t)
	for _, way := range b.Ways() {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			access, topic := open(t, b.Settings(t, way)), parts.Topic()
			for _, c := range clients {
				if way == string(brokers.OAuthBearer) && c.name == "locked" {
					continue
				}
				if err := c.work(bounded(t), access, topic); err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
			}
		})
	}
}

func createTopic(ctx context.Context, access *brokers.Access, topic string) error {
	cluster, err := kafka.NewCluster(access)
	if err != nil {
		return err
	}
	defer cluster.Close()
	if err := cluster.CreateTopic(ctx, topic, 1, 1); err != nil {
		return err
	}
	for { // Until it has a leader.
		_, err := cluster.Ranges(ctx, topic)
		if err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func publishFenced(ctx context.Context, access *brokers.Access, topic string) error {
	p, err := kafka.NewFencer(access, topic, publishTimeout).Fence(ctx, 0, topic+"-0-a")
	if err != nil {
		return err
	}
	defer p.Close()
	return publishBatch(ctx, p, 0)
}

// publishBatch publishes a batch at an offset, and waits until consumers see it.
func publishBatch(ctx context.Context, p *kafka.Producer, next int64) error {
	events, err := events(int(next))
	if err != nil {
		return err
	}
	if err := p.Produce(ctx, next, events); err != nil {
		return err
	}
	if err := p.Commit(ctx); err != nil {
		return err
	}
	return p.AwaitStable(ctx, next+batch+1)
}

func publishLocked(ctx context.Context, access *brokers.Access, topic string) error {
	l := kafka.NewLocked(access, topic, publishTimeout)
	defer l.Close()
	events, err := events(batch)
	if err != nil {
		return err
	}
	_, err = l.Publish(ctx, 0, events)
	return err
}

func readLog(ctx context.Context, access *brokers.Access, topic string) error {
	cluster, err := kafka.NewCluster(access)
	if err != nil {
		return err
	}
	defer cluster.Close()
	r, err := cluster.Range(ctx, topic, 0)
	if err != nil {
		return err
	}
	records := 0
	err = cluster.Read(ctx, topic, 0, r.Start, r.End, func(kafka.Record) error {
		records++
		return nil
	})
	// Without the one marker.
	if want := int(r.End) - 1; err == nil && (records != want || records%batch != 0 || records == 0) {
		err = fmt.Errorf("got %d records, want %d, in batches of %d", records, want, batch)
	}
	return err
}

// readAsPayclient reads the end of the log, as payclient does before it audits.
func readAsPayclient(ctx context.Context, access *brokers.Access, topic string) error {
	reader, err := journal.Topic{Brokers: access, Name: topic}.Open()
	if err != nil {
		return err
	}
	defer reader.Close()
	ends, err := reader.StableOffsets(ctx)
	if err == nil && ends[0] < batch+1 { // The marker has an offset, too.
		err = fmt.Errorf("got the end %d, want at least %d", ends[0], batch+1)
	}
	return err
}

// events returns a batch of payments, numbered from first.
func events(first int) (all []kafka.Event, err error) {
	content := payment.Content{
		Amount: "25687", Currency: "USD",
		Originator:  payment.PartyContent{ID: "567", Name: "Y"},
		Beneficiary: payment.PartyContent{ID: "123", Name: "X"},
		Sender:      payment.AccountContent{Type: "checking", Number: "765543322"},
		Receiver:    payment.AccountContent{Type: "iban", Number: "DE89370400440532013000"},
	}
	tenant := payment.Tenant{TenantRef: payment.TenantRef{ID: 1, Name: "acme"}}
	for n := first; n < first+batch; n++ {
		key, errKey := payment.ParseKey("order-" + strconv.Itoa(n))
		p, errPayment := payment.New(tenant, key, content)
		event, errEvent := kafka.NewEncoder("/paylatch").Encode(p)
		if err := errors.Join(errKey, errPayment, errEvent); err != nil {
			return nil, err
		}
		all = append(all, event)
	}
	return all, nil
}
