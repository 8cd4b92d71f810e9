//go:build unix

// Package bench measures emission, each figure beside its baseline from the same run. It asserts nothing: machines differ, and are shared.
package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/sender"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/test/parts"
)

// senders, in the environment of a process that the benchmark starts: the installation it sends for.
const senders = "PAYLATCH_BENCH_SENDER"

func TestMain(m *testing.M) {
	if text := os.Getenv(senders); text != "" {
		var i installation
		if err := json.Unmarshal([]byte(text), &i); err != nil {
			panic(err)
		}
		s, _, _, err := i.sender(func(*sender.Config) {})
		if err != nil {
			panic(err)
		}
		s.Run(context.Background())
		return
	}
	parts.Main(m)
}

const patience = 3 * time.Minute

// installation is a database and a topic of so many partitions.
type installation struct {
	URL, Broker, Topic string
	Delivery           store.Delivery
	sql                *pgxpool.Pool
}

func install(b *testing.B, delivery store.Delivery, partitions int32) *installation {
	b.Helper()
	i := &installation{URL: parts.Postgres(b), Broker: parts.Kafka(b), Topic: parts.Topic(), Delivery: delivery}
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	var err error
	i.sql, err = pgxpool.New(ctx, i.URL)
	must(err)
	b.Cleanup(i.sql.Close)
	cluster, err := kafka.NewCluster([]string{i.Broker})
	must(err)
	defer cluster.Close()
	must(cluster.CreateTopic(ctx, i.Topic, partitions, 1))
	var ranges []kafka.Range
	for ranges, err = cluster.Ranges(ctx, i.Topic); err != nil && ctx.Err() == nil; ranges, err = cluster.Ranges(ctx, i.Topic) {
		time.Sleep(20 * time.Millisecond)
	}
	must(err)
	s, err := store.Open(ctx, i.URL, 2)
	must(err)
	defer s.Close()
	must(s.InitPartitions(ctx, i.Topic, ranges[0].TopicID, delivery, make([]int64, partitions)))
	_, err = s.CreateTenant(ctx, "acme")
	must(err)
	return i
}

// fill puts payments into the table, evenly over the partitions, of the size that payments have.
func (i *installation) fill(b *testing.B, n int, partitions int32) {
	b.Helper()
	for _, sql := range []string{
		`insert into parties (tenant_id, party_id, name) select id, '567', 'Yolanda Quist' from tenants`,
		`insert into accounts (tenant_id, type, number) select id, 'iban', 'DE89370400440532013000' from tenants`,
		fmt.Sprintf(`insert into payments (amount, originator_id, beneficiary_id, sender_id, receiver_id, id, tenant_id, partition, currency, reference)
			select n, p.id, p.id, a.id, a.id, (overlay(overlay(gen_random_uuid()::text placing '8' from 15) placing '8' from 20))::uuid, t.id, n %% %d, 'EUR', 'INV-' || n
			from generate_series(1, %d) as n, tenants t, parties p, accounts a`, partitions, n),
		`vacuum analyze payments`, `checkpoint`,
	} {
		if _, err := i.sql.Exec(b.Context(), sql); err != nil {
			b.Fatal(err)
		}
	}
}

func (i *installation) sender(change func(*sender.Config)) (s *sender.Sender, sent func() int, closeAll func(), err error) {
	payments, err := store.Open(context.Background(), i.URL, 4)
	if err != nil {
		return nil, nil, nil, err
	}
	cluster, err := kafka.NewCluster([]string{i.Broker})
	if err != nil {
		return nil, nil, nil, err
	}
	registry := prometheus.NewRegistry()
	locked := kafka.NewLocked([]string{i.Broker}, i.Topic, store.PublishTimeout)
	c := sender.Config{
		Store: payments, Delivery: i.Delivery, Log: cluster, Encoder: kafka.NewEncoder("/paylatch"), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Publisher: locked,
		Fencer:    sender.FencerOf(kafka.NewFencer([]string{i.Broker}, i.Topic, store.PublishTimeout)),
		Metrics:   sender.NewMetrics(registry),
	}
	change(&c)
	return sender.New(c), func() int {
		families, _ := registry.Gather()
		for _, f := range families {
			if f.GetName() == "paylatch_payments_sent_total" {
				return int(f.GetMetric()[0].GetCounter().GetValue())
			}
		}
		return 0
	}, func() { locked.Close(); cluster.Close(); payments.Close() }, nil
}

// drain sends n payments by one sender and returns how many it sent in a second.
func drain(b *testing.B, delivery store.Delivery, n, batch int) float64 {
	b.Helper()
	const partitions = 4
	i := install(b, delivery, partitions)
	i.fill(b, n, partitions)
	s, sent, closeAll, err := i.sender(func(c *sender.Config) { c.BatchMax = batch })
	if err != nil {
		b.Fatal(err)
	}
	defer closeAll()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	for sent() == 0 && ctx.Err() == nil { // The take-over is measured elsewhere.
		time.Sleep(time.Millisecond)
	}
	before, began := sent(), time.Now()
	for sent() < n && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	took := time.Since(began)
	if sent() < n {
		b.Fatalf("%d of %d were sent", sent(), n)
	}
	cancel()
	<-done
	return float64(n-before) / took.Seconds()
}

// BenchmarkFencedVsLocked drains the same backlog in both deliveries, in turns: the ratio of the medians is what exactly once costs.
func BenchmarkFencedVsLocked(b *testing.B) {
	for _, row := range []struct {
		name            string
		n, batch, turns int
	}{{"4x1", 4_000, 1, 3}, {"4x100", 60_000, 100, 3}, {"4x1000", 200_000, 1000, 7}} { // Many small transactions first: the broker's code is warm then.
		b.Run(row.name, func(b *testing.B) {
			rates := map[store.Delivery][]float64{}
			for range row.turns {
				for _, d := range []store.Delivery{store.Locked, store.Fenced} {
					rates[d] = append(rates[d], drain(b, d, row.n, row.batch))
				}
			}
			b.ReportMetric(median(rates[store.Locked]), "locked/s")
			b.ReportMetric(median(rates[store.Fenced]), "fenced/s")
			b.ReportMetric(median(rates[store.Fenced])/median(rates[store.Locked]), "ratio")
			b.ReportMetric(0, "ns/op")
			b.Logf("locked %.0f, fenced %.0f payments/s", rates[store.Locked], rates[store.Fenced])
		})
	}
}

// BenchmarkTakeOver kills the owner of a partition with -9, and measures until another replica has taken it over: from the kill, and from the end of the owner's session.
func BenchmarkTakeOver(b *testing.B) {
	const turns = 15
	i := install(b, store.Fenced, 2)
	i.fill(b, 10_000, 2)
	var took atomic.Int64 // When the survivor last took a partition over, in nanoseconds.
	survivor, _, closeAll, err := i.sender(func(c *sender.Config) {
		c.At = func(_ int32, p sender.Point) {
			if p == sender.TakeOverDone {
				took.Store(time.Now().UnixNano())
			}
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	over := make(chan struct{})
	go func() {
		defer close(over)
		survivor.Run(ctx)
	}()
	defer func() {
		cancel()
		<-over
		closeAll()
	}()
	owners := func() (n int) {
		if err := i.sql.QueryRow(ctx, `select count(*) from pg_locks where locktype = 'advisory' and granted and classid = 1886413922
			and database = (select oid from pg_database where datname = current_database())`).Scan(&n); err != nil {
			b.Fatal(err)
		}
		return n
	}
	var fromKill, fromEnd []float64
	for range turns {
		text, err := json.Marshal(i)
		if err != nil {
			b.Fatal(err)
		}
		victim := exec.Command(os.Args[0])
		victim.Env = append(os.Environ(), senders+"="+string(text))
		victim.SysProcAttr = endWithUs()
		if err := victim.Start(); err != nil {
			b.Fatal(err)
		}
		for replicas := 0; replicas < 2 || owners() < 2; time.Sleep(5 * time.Millisecond) { // Each has one.
			if err := i.sql.QueryRow(ctx, `select count(distinct client_port) from pg_locks join pg_stat_activity using (pid) where locktype = 'advisory' and granted
				and classid = 1886413921 and datname = current_database()`).Scan(&replicas); err != nil {
				b.Fatal(err)
			}
		}
		time.Sleep(1500 * time.Millisecond) // It has shared, and taken over.
		killed := time.Now()
		_ = victim.Process.Kill()
		_ = victim.Wait()
		for owners() == 2 {
			time.Sleep(time.Millisecond)
		}
		ended := time.Now()
		for took.Load() < killed.UnixNano() && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		if ctx.Err() != nil {
			b.Fatal(ctx.Err())
		}
		at := time.Unix(0, took.Load())
		fromKill, fromEnd = append(fromKill, at.Sub(killed).Seconds()*1000), append(fromEnd, at.Sub(ended).Seconds()*1000)
	}
	b.ReportMetric(median(fromKill), "ms-from-kill")
	b.ReportMetric(median(fromEnd), "ms-from-end-of-session")
	b.ReportMetric(0, "ns/op")
	b.Logf("from the kill %.0f ms, from the end of the session %.0f ms", fromKill, fromEnd)
}

func median(figures []float64) float64 {
	sorted := slices.Sorted(slices.Values(figures))
	return sorted[len(sorted)/2]
}
