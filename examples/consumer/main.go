// Command consumer keeps a ledger of the payments in Paylatch's topic. It enters each payment
// exactly once, whatever is killed and however many instances run. README.md explains how to run it
// and why it works.
//
// It uses the topic and the JSON of the events, and nothing else of Paylatch.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// schema is created at the start. The lock is for instances that start at the same time. No
// constraint refuses a second entry of a payment. Entries are single only because the offset is
// advanced in the same transaction. The test shows that this is enough.
const schema = `
select pg_advisory_xact_lock(7265706);
create schema if not exists ledger;
create table if not exists ledger.offsets (
	topic text, partition int, topic_id text not null, next bigint not null, primary key (topic, partition));
create table if not exists ledger.entries (
	payment_id text not null, account text not null, currency text not null, amount bigint not null,
	partition int not null, "offset" bigint not null);
create table if not exists ledger.balances (
	account text, currency text, balance bigint not null, entries bigint not null,
	primary key (account, currency));`

// advance sets a partition's offset if it has the expected value. A second instance waits here for
// the lock of the row until the first one's transaction has ended. Then it finds another offset,
// and updates no row.
const advance = `update ledger.offsets set next = $3 where topic = $1 and partition = $2 and next = $4`

// effect enters a batch and adds it to the balances. The order by account keeps instances with
// different partitions from a deadlock.
const effect = `
with entered as (
	insert into ledger.entries (payment_id, account, currency, amount, "offset", partition)
	select *, $6 from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[])
	returning account, currency, amount)
insert into ledger.balances as b (account, currency, balance, entries)
select account, currency, sum(amount)::bigint, count(*)
from entered group by account, currency order by account, currency
on conflict (account, currency) do update
set balance = b.balance + excluded.balance, entries = b.entries + excluded.entries`

const (
	// eventType is the only type that is understood. Another form of the event has another type.
	eventType = "paylatch.payment.created.v1"

	startTimeout = 30 * time.Second
	applyTimeout = 30 * time.Second
	// fetchBytesMax bounds one fetch, and so the memory for it.
	fetchBytesMax = 8 << 20
	// retryEvery is the pause between requests for the topic.
	retryEvery = 100 * time.Millisecond
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	postgres := flag.String("postgres", os.Getenv("CONSUMER_POSTGRES"),
		"URL of the ledger's `database` (CONSUMER_POSTGRES)")
	addresses := flag.String("kafka", "127.0.0.1:9092", "Kafka `brokers`, separated by commas")
	var kafka brokers
	flag.StringVar(&kafka.ca, "kafka-ca", "", "connect by TLS; PEM `file` with the authorities of the brokers")
	flag.StringVar(&kafka.cert, "kafka-cert", "", "PEM `file` with a certificate of the client")
	flag.StringVar(&kafka.key, "kafka-key", "", "PEM `file` with its key")
	flag.StringVar(&kafka.user, "kafka-user", "", "log in as `user` by SCRAM-SHA-512")
	flag.StringVar(&kafka.passwordFile, "kafka-password-file", "", "`file` with the user's password")
	topic := flag.String("topic", "payments", "`name` of Paylatch's topic")
	batch := flag.Int("batch", 500, "`records` in one transaction at most")
	flag.Parse()
	kafka.addresses = strings.Split(*addresses, ",")
	if err := run(ctx, *postgres, kafka, *topic, *batch); err != nil {
		// It is safe to start again after any error: the database has what was applied.
		slog.Error("failed", "error", err)
		os.Exit(1)
	}
}

// consumer applies the records of all partitions of a topic.
type consumer struct {
	db    *pgxpool.Pool
	kafka *kgo.Client
	topic string
	// next holds, by partition, the offset of the first record that this instance has not seen
	// applied.
	next map[int32]int64
}

// run applies records until ctx ends. Then it finishes the transaction in progress.
func run(ctx context.Context, postgres string, kafka brokers, topic string, batch int) error {
	connect, err := kafka.options()
	if err != nil {
		return err
	}
	db, err := pgxpool.New(ctx, postgres)
	if err != nil {
		return err
	}
	defer db.Close()
	c := &consumer{db: db, topic: topic, next: map[int32]int64{}}
	from, err := c.positions(ctx, connect)
	if err != nil {
		return err
	}
	c.kafka, err = kgo.NewClient(append(connect,
		// No consumer group: the offsets are in the database.
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		// The default shows aborted records.
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// Control records advance the position past the end of a transaction.
		kgo.KeepControlRecords(),
		// An offset that the log does not have is an error, not a new start.
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxBytes(fetchBytesMax))...)
	if err != nil {
		return err
	}
	defer c.kafka.Close()
	slog.Info("started", "topic", topic, "next", c.next)
	for {
		fetched := c.kafka.PollRecords(ctx, batch)
		if ctx.Err() != nil {
			slog.Info("stopped", "next", c.next)
			return nil
		}
		fetched.EachError(func(_ string, partition int32, err2 error) {
			err = errors.Join(err, fmt.Errorf("fetch %s/%d from %d: %w", topic, partition, c.next[partition], err2))
		})
		fetched.EachPartition(func(p kgo.FetchTopicPartition) {
			if err == nil && len(p.Records) > 0 {
				err = c.apply(context.WithoutCancel(ctx), p.Partition, p.Records)
			}
		})
		if err != nil {
			return err
		}
	}
}

// positions creates the tables and a row for each partition, and returns the offsets to start from.
func (c *consumer) positions(ctx context.Context, connect []kgo.Opt) (map[int32]kgo.Offset, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if _, err := c.db.Exec(ctx, schema); err != nil {
		return nil, fmt.Errorf("the ledger's tables: %w", err)
	}
	admin, err := kadm.NewOptClient(connect...)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	topics, err := admin.ListTopics(ctx, c.topic)
	if err == nil {
		err = topics.Error()
	}
	for kerr.IsRetriable(err) && ctx.Err() == nil { // Not every broker knows a topic that is new.
		time.Sleep(retryEvery)
		topics, err = admin.ListTopics(ctx, c.topic)
		if err == nil {
			err = topics.Error()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("topic %s: %w", c.topic, err)
	}
	id, from := topics[c.topic].ID.String(), map[int32]kgo.Offset{}
	for partition := range topics[c.topic].Partitions {
		var known string
		var next int64
		const insert = `insert into ledger.offsets values ($1, $2, $3, 0) on conflict do nothing`
		if _, err := c.db.Exec(ctx, insert, c.topic, partition, id); err != nil {
			return nil, err
		}
		const get = `select topic_id, next from ledger.offsets where topic = $1 and partition = $2`
		if err := c.db.QueryRow(ctx, get, c.topic, partition).Scan(&known, &next); err != nil {
			return nil, err
		}
		if known != id { // Deleted and created again: its offsets mean other records.
			return nil, fmt.Errorf("topic %s is not the one that was applied: got id %s, want %s",
				c.topic, id, known)
		}
		c.next[partition], from[partition] = next, kgo.NewOffset().At(next)
	}
	return from, nil
}

// apply commits the offset and the effect of a batch together, or neither. This is what makes it
// exactly once. If another instance has advanced the offset, apply only follows it.
func (c *consumer) apply(ctx context.Context, partition int32, records []*kgo.Record) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	// Offsets have gaps: aborted records, and the ends of transactions. So next is not a count.
	at, next := c.next[partition], records[len(records)-1].Offset+1
	if records[0].Offset < at {
		return fmt.Errorf("%s/%d: record %d came after offset %d", c.topic, partition, records[0].Offset, at)
	}
	payments, err := decodeAll(records)
	if err != nil {
		return err
	}
	tx, err := c.db.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	moved, err := tx.Exec(ctx, advance, c.topic, partition, next, at)
	if err != nil {
		return err
	}
	if moved.RowsAffected() == 0 {
		return c.follow(ctx, partition)
	}
	_, err = tx.Exec(ctx, effect, payments.ids, payments.accounts, payments.currencies, payments.amounts,
		payments.offsets, partition)
	if err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit %s/%d up to %d, which may have happened: %w", c.topic, partition, next, err)
	}
	c.next[partition] = next
	return nil
}

// follow continues from the offset that another instance has reached.
func (c *consumer) follow(ctx context.Context, partition int32) error {
	var next int64
	const get = `select next from ledger.offsets where topic = $1 and partition = $2`
	if err := c.db.QueryRow(ctx, get, c.topic, partition).Scan(&next); err != nil {
		return err
	}
	slog.Info("another instance was faster", "partition", partition, "at", c.next[partition], "next", next)
	c.next[partition] = next
	to := kgo.EpochOffset{Epoch: -1, Offset: next}
	c.kafka.SetOffsets(map[string]map[int32]kgo.EpochOffset{c.topic: {partition: to}})
	return nil
}

// payments holds a batch in columns.
type payments struct {
	ids, accounts, currencies []string
	amounts, offsets          []int64
}

// decodeAll decodes the events of a batch. An event that is not understood stops the program before
// its partition advances: to skip it would lose a payment. Errors do not contain the event, which
// has names in it.
func decodeAll(records []*kgo.Record) (p payments, err error) {
	for _, r := range records {
		if r.Attrs.IsControl() { // The end of a transaction.
			continue
		}
		var event struct {
			ID       string                        `json:"id"`
			Amount   int64                         `json:"amount"`
			Currency string                        `json:"currency"`
			Receiver struct{ Type, Number string } `json:"receiver"`
		}
		kind := ""
		for _, h := range r.Headers {
			if h.Key == "ce_type" {
				kind = string(h.Value)
			}
		}
		if kind != eventType {
			return p, fmt.Errorf("%s/%d offset %d: got ce_type %.100q, want %q",
				r.Topic, r.Partition, r.Offset, kind, eventType)
		}
		if json.Unmarshal(r.Value, &event) != nil || event.ID == "" || event.ID != string(r.Key) ||
			event.Amount <= 0 || event.Currency == "" || event.Receiver.Number == "" {
			return p, fmt.Errorf("%s/%d offset %d: not the JSON of a payment", r.Topic, r.Partition, r.Offset)
		}
		p.ids = append(p.ids, event.ID)
		p.accounts = append(p.accounts, event.Receiver.Type+" "+event.Receiver.Number)
		p.currencies = append(p.currencies, event.Currency)
		p.amounts = append(p.amounts, event.Amount)
		p.offsets = append(p.offsets, r.Offset)
	}
	return p, nil
}
