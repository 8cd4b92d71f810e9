//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	watermillsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	riverqueue "github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/twmb/franz-go/pkg/kgo"

	ours "github.com/paylatch/paylatch/internal/kafka"
)

// The peers emit the key and the value of our records, without our headers, which would only slow
// them.

// insertChunk is how many messages go into one statement when a peer's backlog is made, which is
// not measured.
const insertChunk = 5_000

// emission is the arguments of a River job.
type emission struct {
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
}

// Kind names the job.
func (emission) Kind() string { return "emission" }

// emitter is River's worker: it returns, and its job is done, when the broker has acknowledged the
// record.
type emitter struct {
	riverqueue.WorkerDefaults[emission]
	client *kgo.Client
	topic  string
	watch  *stopwatch
}

// Work emits one record.
func (e *emitter) Work(ctx context.Context, job *riverqueue.Job[emission]) error {
	record := &kgo.Record{Topic: e.topic, Key: []byte(job.Args.Key), Value: job.Args.Value}
	if err := e.client.ProduceSync(ctx, record).FirstErr(); err != nil {
		return err
	}
	e.watch.one()
	return nil
}

// river plays the role: River with the number of workers that was found best, and fetching as often
// as it can.
func river(ctx context.Context, j job, report func(any) error) error {
	ctx, cancel := context.WithTimeout(ctx, drainMax)
	defer cancel()
	const workers, pooled = 1_000, 20
	pool, err := openPool(ctx, j.URL, pooled)
	if err != nil {
		return err
	}
	defer pool.Close()
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	producer, err := kgo.NewClient(kgo.SeedBrokers(j.Broker), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(0))
	if err != nil {
		return err
	}
	defer producer.Close()
	e := &emitter{client: producer, topic: j.Topic, watch: newStopwatch(j.Count)}
	registered := riverqueue.NewWorkers()
	if err := riverqueue.AddWorkerSafely(registered, e); err != nil {
		return err
	}
	client, err := riverqueue.NewClient(riverpgxv5.New(pool), &riverqueue.Config{
		Queues: map[string]riverqueue.QueueConfig{riverqueue.QueueDefault: {MaxWorkers: workers}}, Workers: registered,
		FetchCooldown: riverqueue.FetchCooldownMin, FetchPollInterval: riverqueue.FetchPollIntervalMin,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		return err
	}
	if err := queueJobs(ctx, j, client); err != nil {
		return err
	}
	if err := settle(ctx, pool); err != nil {
		return err
	}
	if err := client.Start(ctx); err != nil {
		return err
	}
	r, err := e.watch.result(ctx)
	if err != nil {
		return err
	}
	if err := client.Stop(ctx); err != nil {
		return err
	}
	return report(r)
}

// queueJobs makes River's backlog of the source's records.
func queueJobs(ctx context.Context, j job, client *riverqueue.Client[pgx.Tx]) error {
	var chunk []riverqueue.InsertManyParams
	insert := func() error {
		_, err := client.InsertManyFast(ctx, chunk)
		chunk = chunk[:0]
		return err
	}
	count := 0
	err := readAll(ctx, j.Broker, j.Source, func(r ours.Record) error {
		if count == j.Count {
			return nil
		}
		count++
		chunk = append(chunk, riverqueue.InsertManyParams{Args: emission{string(r.Key), r.Value}})
		if len(chunk) == insertChunk {
			return insert()
		}
		return nil
	})
	if err != nil || len(chunk) == 0 {
		return err
	}
	return insert()
}

func openPool(ctx context.Context, url string, pooled int32) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.MaxConns = pooled
	return pgxpool.NewWithConfig(ctx, config)
}

func settle(ctx context.Context, pool *pgxpool.Pool) error {
	for _, sql := range []string{`vacuum analyze`, `checkpoint`} {
		if _, err := pool.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// lanes is the number of Watermill's topics, each with a forwarder, that was found best: a
// forwarder continues when its message is acknowledged.
const lanes = 32

func lane(n int) string { return fmt.Sprintf("lane_%d", n) }

// counted notes in the stopwatch each message that the broker has acknowledged.
type counted struct {
	message.Publisher
	watch *stopwatch
}

// Publish publishes and counts.
func (c counted) Publish(topic string, messages ...*message.Message) error {
	if err := c.Publisher.Publish(topic, messages...); err != nil {
		return err
	}
	for range messages {
		c.watch.one()
	}
	return nil
}

// watermillForward plays the role: Watermill's forwarder from its SQL Pub/Sub to its Kafka Pub/Sub.
func watermillForward(ctx context.Context, j job, report func(any) error) error {
	ctx, cancel := context.WithTimeout(ctx, drainMax)
	defer cancel()
	pool, err := openPool(ctx, j.URL, lanes+8)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := queueMessages(ctx, j, pool); err != nil {
		return err
	}
	if err := settle(ctx, pool); err != nil {
		return err
	}
	config := kafka.DefaultSaramaSyncPublisherConfig()
	config.Version = sarama.V2_8_0_0 // Brokers of today do not speak the default's protocol.
	config.Producer.RequiredAcks = sarama.WaitForAll
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{
		Brokers: []string{j.Broker}, OverwriteSaramaConfig: config,
		Marshaler: kafka.NewWithPartitioningMarshaler(func(_ string, m *message.Message) (string, error) {
			return m.UUID, nil
		}),
	}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	watch := newStopwatch(j.Count)
	var running sync.WaitGroup
	failed := make(chan error, lanes)
	forwarding, stop := context.WithCancel(ctx)
	for n := range lanes {
		f, err := newForwarder(pool, counted{publisher, watch}, n)
		if err != nil {
			stop()
			return err
		}
		running.Go(func() {
			if err := f.Run(forwarding); err != nil {
				failed <- err
			}
		})
	}
	r, err := watch.result(ctx)
	stop()
	running.Wait()
	if err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	default:
	}
	return report(r)
}

func newForwarder(pool *pgxpool.Pool, out message.Publisher, n int) (*forwarder.Forwarder, error) {
	subscriber, err := watermillsql.NewSubscriber(watermillsql.BeginnerFromPgx(pool), watermillsql.SubscriberConfig{
		SchemaAdapter:  watermillsql.DefaultPostgreSQLSchema{},
		OffsetsAdapter: watermillsql.DefaultPostgreSQLOffsetsAdapter{}, InitializeSchema: true,
	}, watermill.NopLogger{})
	if err != nil {
		return nil, err
	}
	return forwarder.NewForwarder(subscriber, out, watermill.NopLogger{}, forwarder.Config{ForwarderTopic: lane(n)})
}

// queueMessages makes the forwarders' backlog of the source's records, evenly over the lanes.
func queueMessages(ctx context.Context, j job, pool *pgxpool.Pool) error {
	out, err := watermillsql.NewPublisher(watermillsql.BeginnerFromPgx(pool), watermillsql.PublisherConfig{
		SchemaAdapter: watermillsql.DefaultPostgreSQLSchema{}, AutoInitializeSchema: true,
	}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	var chunks [lanes][]*message.Message
	count := 0
	err = readAll(ctx, j.Broker, j.Source, func(r ours.Record) error {
		if count == j.Count {
			return nil
		}
		n := count % lanes
		count++
		id, err := uuid.ParseBytes(r.Key)
		if err != nil {
			return err
		}
		chunks[n] = append(chunks[n], message.NewMessage(id.String(), r.Value))
		if len(chunks[n]) < insertChunk {
			return nil
		}
		chunk := chunks[n]
		chunks[n] = nil
		return enveloped(out, lane(n)).Publish(j.Topic, chunk...)
	})
	if err != nil {
		return err
	}
	for n, chunk := range chunks {
		if err := enveloped(out, lane(n)).Publish(j.Topic, chunk...); err != nil {
			return err
		}
	}
	return nil
}

func enveloped(out message.Publisher, topic string) message.Publisher {
	return forwarder.NewPublisher(out, forwarder.PublisherConfig{ForwarderTopic: topic})
}
