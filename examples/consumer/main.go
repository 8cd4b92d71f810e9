// Command consumer keeps a ledger of the payments in Paylatch's topic, and enters each of them exactly once: whatever is killed, whenever, and however many
// instances run. See README.md for how to run it and for why it holds.
//
// It is written as an outsider would write it: it knows the topic and the event's JSON, and nothing else of Paylatch.
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

// schema is made at the start; the lock is for instances that start at once. Nothing in it refuses a second entry of a payment: that offsets are moved on in the
// same transaction is all that keeps entries single, and the test shows that it is enough.
const schema = `
select pg_advisory_xact_lock(7265706);
create schema if not exists ledger;
create table if not exists ledger.offsets (
	topic text, partition int, topic_id text not null, next bigint not null, primary key (topic, partition));
create table if not exists ledger.entries (
	payment_id text not null, account text not null, currency text not null, amount bigint not null, partition int not null, "offset" bigint not null);
create table if not exists ledger.balances (
	account text, currency text, balance bigint not null, entries bigint not null, primary key (account, currency));`

// advance moves a partition's offset on, if it is where we think it is. An instance that is late waits here for the row's lock, until the other one's
// transaction has ended; then it finds another offset and no row.
const advance = `update ledger.offsets set next = $3 where topic = $1 and partition = $2 and next = $4`

// effect enters a batch and adds it to the balances, in order of account, so that instances with different partitions cannot deadlock.
const effect = `
with entered as (
	insert into ledger.entries (payment_id, account, currency, amount, "offset", partition)
	select *, $6 from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[])
	returning account, currency, amount)
insert into ledger.balances as b (account, currency, balance, entries)
select account, currency, sum(amount)::bigint, count(*) from entered group by account, currency order by account, currency
on conflict (account, currency) do update set balance = b.balance + excluded.balance, entries = b.entries + excluded.entries`

const (
	eventType = "paylatch.payment.created.v1" // Another version of the event would have another name.

	startTimeout, applyTimeout = 30 * time.Second, 30 * time.Second
	// retryEvery paces the questions for the topic.
	retryEvery = 100 * time.Millisecond
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	postgres := flag.String("postgres", os.Getenv("CONSUMER_POSTGRES"), "URL of the ledger's `database` (CONSUMER_POSTGRES)")
	kafka := flag.String("kafka", "127.0.0.1:9092", "Kafka `brokers`, with commas")
	topic := flag.String("topic", "payments", "`name` of Paylatch's topic")
	batch := flag.Int("batch", 500, "how many `records` one transaction may take")
	flag.Parse()
	if err := run(ctx, *postgres, strings.Split(*kafka, ","), *topic, *batch); err != nil {
		// Whatever failed, it is safe to be started again: the database knows what was applied.
		slog.Error("ended", "error", err)
		os.Exit(1)
	}
}

// consumer applies the records of all partitions of a topic.
type consumer struct {
	db    *pgxpool.Pool
	kafka *kgo.Client
	topic string
	next  map[int32]int64 // The offset of the first record that is not applied, as far as this instance knows.
}

// run applies what comes until ctx ends; then it finishes the transaction that it is in.
func run(ctx context.Context, postgres string, brokers []string, topic string, batch int) error {
	db, err := pgxpool.New(ctx, postgres)
	if err != nil {
		return err
	}
	defer db.Close()
	c := &consumer{db: db, topic: topic, next: map[int32]int64{}}
	from, err := c.positions(ctx, brokers)
	if err != nil {
		return err
	}
	c.kafka, err = kgo.NewClient(kgo.SeedBrokers(brokers...),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}), // No group: the offsets are ours.
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),                        // The default shows aborted records.
		kgo.KeepControlRecords(),                                            // They move the position past the ends of transactions.
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),                         // An offset that the log does not have is an error, not a new start.
		kgo.FetchMaxBytes(8<<20))
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

// positions makes the tables and a row for each partition, and says where to go on.
func (c *consumer) positions(ctx context.Context, brokers []string) (map[int32]kgo.Offset, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if _, err := c.db.Exec(ctx, schema); err != nil {
		return nil, fmt.Errorf("the ledger's tables: %w", err)
	}
	admin, err := kadm.NewOptClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	topics, err := admin.ListTopics(ctx, c.topic)
	if err == nil {
		err = topics.Error()
	}
	for kerr.IsRetriable(err) && ctx.Err() == nil { // A topic that was just made is not known to every broker.
		time.Sleep(retryEvery)
		if topics, err = admin.ListTopics(ctx, c.topic); err == nil {
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
		if _, err := c.db.Exec(ctx, `insert into ledger.offsets values ($1, $2, $3, 0) on conflict do nothing`, c.topic, partition, id); err != nil {
			return nil, err
		}
		if err := c.db.QueryRow(ctx, `select topic_id, next from ledger.offsets where topic = $1 and partition = $2`, c.topic, partition).Scan(&known, &next); err != nil {
			return nil, err
		}
		if known != id { // Deleted and made anew: its offsets mean other records.
			return nil, fmt.Errorf("topic %s is not the one that was applied: its id is %s, and was %s", c.topic, id, known)
		}
		c.next[partition], from[partition] = next, kgo.NewOffset().At(next)
	}
	return from, nil
}

// apply is where exactly once is kept: the offset and the effect of a batch are committed together or not at all. When another instance has moved the
// offset, nothing is done but to go on from there.
func (c *consumer) apply(ctx context.Context, partition int32, records []*kgo.Record) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	at, next := c.next[partition], records[len(records)-1].Offset+1 // Offsets have gaps: of aborted records, and where transactions end.
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
	if _, err := tx.Exec(ctx, effect, payments.ids, payments.accounts, payments.currencies, payments.amounts, payments.offsets, partition); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit %s/%d up to %d, which may have happened: %w", c.topic, partition, next, err)
	}
	c.next[partition] = next
	return nil
}

// follow goes on from where another instance has got to.
func (c *consumer) follow(ctx context.Context, partition int32) error {
	var next int64
	if err := c.db.QueryRow(ctx, `select next from ledger.offsets where topic = $1 and partition = $2`, c.topic, partition).Scan(&next); err != nil {
		return err
	}
	slog.Info("another instance was faster", "partition", partition, "at", c.next[partition], "next", next)
	c.next[partition] = next
	c.kafka.SetOffsets(map[string]map[int32]kgo.EpochOffset{c.topic: {partition: {Epoch: -1, Offset: next}}})
	return nil
}

// payments are a batch in columns.
type payments struct {
	ids, accounts, currencies []string
	amounts, offsets          []int64
}

// decodeAll reads the events of a batch. One that is not understood stops the program, before its partition goes past it: to skip it would be to lose a payment.
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
			return p, fmt.Errorf("%s/%d offset %d: ce_type %.100q, and only %q is known", r.Topic, r.Partition, r.Offset, kind, eventType)
		}
		if json.Unmarshal(r.Value, &event) != nil || event.ID == "" || event.ID != string(r.Key) || event.Amount <= 0 || event.Currency == "" || event.Receiver.Number == "" {
			return p, fmt.Errorf("%s/%d offset %d: not the JSON of a payment", r.Topic, r.Partition, r.Offset) // Without the content: it holds names.
		}
		p.ids, p.accounts = append(p.ids, event.ID), append(p.accounts, event.Receiver.Type+" "+event.Receiver.Number)
		p.currencies, p.amounts, p.offsets = append(p.currencies, event.Currency), append(p.amounts, event.Amount), append(p.offsets, r.Offset)
	}
	return p, nil
}
