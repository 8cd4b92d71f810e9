//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
)

// endToEndRate is how many payments a second are made.
const endToEndRate = 200

// measureEndToEnd compares the time from a POST to a consumer with the least that it could take:
// one commit and one Kafka transaction, each alone.
func measureEndToEnd(ctx context.Context, b *bench, short bool) (_ map[string]figures, err error) {
	l := lengthOf(short, length{5, 15 * time.Second}, length{3, 5 * time.Second})
	i, service, err := b.sending(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, service.end()) }()
	creates := order{
		APIKey: i.APIKey, Connections: connections, For: l.each, Rate: endToEndRate, Creates: 1,
		Stamped: true,
	}
	warm := creates
	warm.For = 5 * time.Second
	if _, err := b.endToEnd(ctx, i, service, warm); err != nil {
		return nil, err
	}
	turns, err := alternate(ctx, l.turns,
		contender{"end to end", func(ctx context.Context) (result, error) {
			return b.endToEnd(ctx, i, service, creates)
		}},
		contender{"commit", func(ctx context.Context) (result, error) { return commitAlone(ctx, i, l.each/2) }},
		contender{"transaction", func(ctx context.Context) (result, error) {
			return transactionAlone(ctx, i.Broker, i.Topic+"-alone", l.each/2)
		}},
	)
	if err != nil {
		return nil, err
	}
	p50 := func(r result) float64 { return r.All.P50 }
	f := turns.figures("end to end", "commit", p50)
	for n, transaction := range turns.each("transaction", p50) {
		f.baseline[n] += transaction
	}
	f.raw["commit_p50_ms"], f.raw["transaction_p50_ms"] = turns.median("commit", p50), turns.median("transaction", p50)
	f.raw["end_to_end_p90_ms"] = turns.median("end to end", func(r result) float64 { return r.All.P90 })
	f.raw["end_to_end_p99_ms"] = turns.median("end to end", func(r result) float64 { return r.All.P99 })
	f.raw["create_p50_ms"] = turns.median("end to end", func(r result) float64 { return r.Create.P50 })
	return map[string]figures{"end_to_end_p50": f}, nil
}

// endToEnd makes payments, each stamped with when its POST should have been sent, and measures
// until a read_committed consumer has them.
func (b *bench) endToEnd(ctx context.Context, i *installation, service *server, o order) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, drainMax)
	defer cancel()
	consumer, err := kgo.NewClient(kgo.SeedBrokers(i.Broker), kgo.ConsumeTopics(i.Topic),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()), kgo.FetchMaxWait(500*time.Millisecond),
		kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		return result{}, err
	}
	defer consumer.Close()
	began := time.Now().Add(time.Second) // Time for the consumer to find the ends of the partitions.
	seen := histogram()
	expected := int64(o.Rate * o.For.Seconds())
	var reading sync.WaitGroup
	var readErr error
	reading.Go(func() {
		readErr = readStamped(ctx, consumer, expected,
			func(took time.Duration) error { return seen.RecordValue(max(took.Microseconds(), 1)) })
	})
	time.Sleep(time.Until(began))
	r, err := b.load(ctx, service, o)
	if err != nil {
		cancel()
		reading.Wait()
		return r, err
	}
	reading.Wait()
	r.All = percentiles(seen)
	return r, readErr
}

// readStamped reads a number of records, and reports the age of each by its stamp.
func readStamped(ctx context.Context, consumer *kgo.Client, expected int64, each func(time.Duration) error) error {
	for read := int64(0); read < expected; {
		fetches := consumer.PollFetches(ctx)
		at := time.Now()
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("%d of %d payments have arrived: %w", read, expected, err)
		}
		for records := fetches.RecordIter(); !records.Done(); read++ {
			sent, err := stampOf(records.Next().Value)
			if err == nil {
				err = each(at.Sub(sent))
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func stampOf(event []byte) (time.Time, error) {
	var b struct {
		Reference string `json:"reference"`
	}
	if err := json.Unmarshal(event, &b); err != nil {
		return time.Time{}, err
	}
	nanos, err := strconv.ParseInt(b.Reference[min(len("INV-"), len(b.Reference)):], 10, 64)
	return time.Unix(0, nanos), err
}

// timed repeats one piece of work for so long, with a pause after each, and measures each.
func timed(each, pause time.Duration, work func() error) (result, error) {
	h := histogram()
	r := result{}
	for began := time.Now(); time.Since(began) < each; r.Done++ {
		at := time.Now()
		if err := work(); err != nil {
			return r, err
		}
		if err := h.RecordValue(max(time.Since(at).Microseconds(), 1)); err != nil {
			return r, err
		}
		time.Sleep(pause)
	}
	r.All = percentiles(h)
	return r, nil
}

// commitAlone inserts one payment after the other, each a commit, into a table of the same form
// that no sender looks at.
func commitAlone(ctx context.Context, i *installation, each time.Duration) (r result, err error) {
	conn, err := pgx.Connect(ctx, i.URL)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	_, err = conn.Exec(ctx, `create schema alone; create table alone.payments (like payments including all)`)
	if err != nil {
		return r, err
	}
	if _, err := conn.Exec(ctx, `set search_path = alone`); err != nil {
		return r, err
	}
	r, err = timed(each, 0, func() error { return insertPayment(ctx, conn) })
	_, dropErr := conn.Exec(ctx, `drop schema alone cascade`)
	return r, errors.Join(err, dropErr)
}

// transactionAlone begins a Kafka transaction, produces one record to a topic that is there, and
// commits, one after the other. The pause leaves the coordinator time to complete each: it would
// let the next one wait for 20 ms.
func transactionAlone(ctx context.Context, broker, id string, each time.Duration) (result, error) {
	const pause = 5 * time.Millisecond
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.TransactionalID(id), kgo.DefaultProduceTopic(warmTopic),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ManualFlushing(), kgo.ConcurrentTransactionsBackoff(5*time.Millisecond))
	if err != nil {
		return result{}, err
	}
	defer client.Close()
	value := make([]byte, 300)
	return timed(each, pause, func() error {
		if err := client.BeginTransaction(); err != nil {
			return err
		}
		acknowledged := make(chan error, 1)
		client.Produce(ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, err error) { acknowledged <- err })
		if err := client.Flush(ctx); err != nil {
			return err
		}
		if err := <-acknowledged; err != nil {
			return err
		}
		return client.EndTransaction(ctx, kgo.TryCommit)
	})
}
