//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/paylatch/paylatch/test/parts"
)

func TestMain(m *testing.M) { parts.Main(m) }

const (
	partitions = 3
	// batch is small, so that there are many transactions in which an instance can be killed.
	batch     = 20
	instances = 2
	killsMin  = 25
	// midWorkMin is how many kills must fall into an open transaction that has entries.
	midWorkMin = 6
	// killsMax is when the test gives up.
	killsMax    = 200
	testTimeout = 2 * time.Minute
)

// TestConsumer kills (-9) two instances again and again, many times while their transaction is
// open. Every third transaction of the topic is aborted. Then the ledger must have each committed
// payment once and no other, and the balances must be the sums.
//
// The controls are the same program with one line changed. The same verdict must find their faults.
func TestConsumer(t *testing.T) {
	t.Parallel()
	doubles := func(v verdict) int { return v.doubles }
	missing := func(v verdict) int { return v.missing }
	unexpected := func(v verdict) int { return v.unexpected }
	for _, test := range []struct {
		name     string
		old, new string // The change to main.go.
		caught   func(verdict) int
	}{
		{name: "AsItIs"},
		{"ControlEffectApart", "tx.Exec(ctx, effect,", "c.db.Exec(ctx, effect,", doubles},
		{"ControlOffsetApart", "tx.Exec(ctx, advance,", "c.db.Exec(ctx, advance,", missing},
		{"ControlUnconditional", "and next = $4`", "and $4::bigint >= 0`", doubles},
		{"ControlUncommitted", "kgo.ReadCommitted()", "kgo.ReadUncommitted()", unexpected},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, build(t, test.old, test.new), rand.Uint64())
			w.killMany()
			w.finish()
			v := w.judge()
			t.Logf("seed %d: %d kills, %d of them in mid work; %d transactions, %d aborted; contended %d times; %+v",
				w.seed, w.kills, w.midWork, w.transactions, w.aborted, w.contended(), v)
			if w.aborted == 0 || w.kills < killsMin || w.midWork < midWorkMin {
				t.Fatalf("got %d aborted transactions, %d kills and %d in mid work, want at least 1, %d and %d",
					w.aborted, w.kills, w.midWork, killsMin, midWorkMin)
			}
			if test.caught != nil {
				if test.caught(v) == 0 || v.sums == 0 {
					t.Errorf("got %+v of the changed program, want its fault", v)
				}
				return
			}
			if want := (verdict{entries: len(w.paid)}); v != want {
				t.Errorf("got %+v, want %+v", v, want)
			}
			if w.contended() == 0 {
				t.Error("got no contention of the instances for a partition, want some")
			}
		})
	}
}

// TestConsumer_UnknownType: an event of an unknown type stops the program, and its log names the
// event. No record from there on is applied, however often the program is started again.
func TestConsumer_UnknownType(t *testing.T) {
	t.Parallel()
	w := newWorld(t, build(t, "", ""), rand.Uint64())
	w.produce(10, true)
	w.eventType = "paylatch.payment.created.v2"
	unknown := w.produce(1, true)[0]
	for range 2 {
		i := w.start(0)
		select {
		case <-i.done:
		case <-time.After(testTimeout):
			t.Fatalf("got a program that runs after %s, want its end", testTimeout)
		}
		if code := i.cmd.ProcessState.ExitCode(); code != 1 {
			t.Errorf("got exit code %d, want 1", code)
		}
		for _, want := range []string{"created.v2", fmt.Sprintf("/%d offset %d:", unknown.Partition, unknown.Offset)} {
			if log := i.logged(); !strings.Contains(log, want) {
				t.Errorf("got a log without %q:\n%s", want, log)
			}
		}
		w.running[0] = nil
	}
	var n int
	w.row(&n, `select count(*) from ledger.entries where payment_id = $1`, string(unknown.Key))
	var next int64
	w.row(&next, `select next from ledger.offsets where partition = $1`, unknown.Partition)
	if n != 0 || next > unknown.Offset {
		t.Errorf("got %d entries of the unknown event and offset %d, want none and at most %d", n, next, unknown.Offset)
	}
}

// TestConsumer_TopicCreatedAgain: a topic that was deleted and created again has other records at
// the same offsets, and is refused.
func TestConsumer_TopicCreatedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, build(t, "", ""), rand.Uint64())
	w.produce(10, true)
	w.start(0)
	w.finish()
	if _, err := w.admin.DeleteTopic(t.Context(), w.topic); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(testTimeout)
	for { // A broker deletes a topic some time after its response.
		_, err := w.admin.CreateTopic(t.Context(), partitions, 1, nil, w.topic)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	i := w.start(0)
	select {
	case <-i.done:
	case <-time.After(testTimeout):
		t.Fatal("still running")
	}
	const refusal = "is not the one that was applied"
	if log := i.logged(); i.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(log, refusal) {
		t.Errorf("got %s, want exit code 1 and %q in the log:\n%s", i.cmd.ProcessState, refusal, log)
	}
	w.running[0] = nil
}

// build compiles the program. If old is not empty, it replaces old in main.go by new. main.go must
// have old exactly once.
func build(t *testing.T, old, new string) string {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "consumer")
	args := []string{"build", "-o", binary}
	if old != "" {
		source, err := filepath.Abs("main.go")
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(text, []byte(old)); n != 1 {
			t.Fatalf("got %q %d times in main.go, want once", old, n)
		}
		changed, overlay := filepath.Join(dir, "main.go"), filepath.Join(dir, "overlay.json")
		replace, err := json.Marshal(map[string]any{"Replace": map[string]string{source: changed}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(changed, bytes.Replace(text, []byte(old), []byte(new), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(overlay, replace, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-overlay", overlay)
	}
	if out, err := exec.CommandContext(t.Context(), "go", append(args, ".")...).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// world is a topic, a ledger, and the instances between them.
type world struct {
	*testing.T
	binary    string
	url       string
	broker    string
	topic     string
	eventType string
	logs      string // A directory.
	seed      uint64
	random    *rand.Rand
	db        *pgxpool.Pool
	producer  *kgo.Client
	admin     *kadm.Client

	running      [instances]*instance
	instances    []*instance // All that were ever started.
	kills        int
	midWork      int
	transactions int
	aborted      int
	paid         map[string]entry // The committed payments, by id.
}

type entry struct {
	account, currency string
	amount            int64
}

func newWorld(t *testing.T, binary string, seed uint64) *world {
	t.Helper()
	w := &world{
		T: t, binary: binary, url: parts.EmptyPostgres(t), broker: parts.Kafka(t), topic: parts.Topic(),
		eventType: eventType, logs: t.TempDir(),
		seed: seed, random: rand.New(rand.NewPCG(seed, 0)), paid: map[string]entry{},
	}
	var err error
	w.db, err = pgxpool.New(t.Context(), w.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.db.Close)
	w.producer, err = kgo.NewClient(kgo.SeedBrokers(w.broker), kgo.TransactionalID(w.topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.producer.Close)
	w.admin = kadm.NewClient(w.producer)
	if _, err := w.admin.CreateTopic(t.Context(), partitions, 1, nil, w.topic); err != nil {
		t.Fatal(err)
	}
	// A slow ledger makes each transaction long enough for a kill to fall into it.
	const slow = `
		create function ledger.take_time() returns trigger language plpgsql
			as $$ begin perform pg_sleep(0.01); return null; end $$;
		create trigger take_time after insert on ledger.entries
			for each statement execute function ledger.take_time();`
	if _, err := w.db.Exec(t.Context(), schema+slow); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, i := range w.running {
			if i != nil {
				_ = i.cmd.Process.Kill()
				<-i.done
			}
		}
	})
	return w
}

// produce writes n payments to all partitions in one transaction, and commits or aborts it.
func (w *world) produce(n int, commit bool) []*kgo.Record {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), testTimeout)
	defer cancel()
	if err := w.producer.BeginTransaction(); err != nil {
		w.Fatal(err)
	}
	var records []*kgo.Record
	for range n {
		id := uuid.NewString()
		e := entry{
			account:  fmt.Sprintf("iban DE%d", w.random.IntN(5)),
			currency: []string{"EUR", "USD"}[w.random.IntN(2)],
			amount:   1 + w.random.Int64N(100_000),
		}
		value := fmt.Sprintf(`{"id":%q,"tenant":"acme","seq":1,"amount":%d,"currency":%q,`+
			`"originator":{"id":"567","name":"Y"},"beneficiary":{"id":"123","name":"X"},`+
			`"sender":{"type":"checking","number":"765543322"},"receiver":{"type":"iban","number":%q},`+
			`"created_at":"2026-11-24T12:00:00.000000Z"}`,
			id, e.amount, e.currency, strings.TrimPrefix(e.account, "iban "))
		records = append(records, &kgo.Record{
			Topic: w.topic, Partition: w.random.Int32N(partitions), Key: []byte(id), Value: []byte(value),
			Headers: []kgo.RecordHeader{
				{Key: "ce_type", Value: []byte(w.eventType)},
				{Key: "ce_id", Value: []byte(id)},
			},
		})
		if commit {
			w.paid[id] = e
		}
	}
	if err := w.producer.ProduceSync(ctx, records...).FirstErr(); err != nil {
		w.Fatal(err)
	}
	w.transactions++
	if !commit {
		w.aborted++
	}
	if err := w.producer.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
		w.Fatal(err)
	}
	return records
}

// instance is a process of the program.
type instance struct {
	cmd *exec.Cmd
	// log is the file that it logs to.
	log string
	// done is closed when the process has ended.
	done chan struct{}
}

// logged returns what the instance has logged.
func (i *instance) logged() string {
	text, err := os.ReadFile(i.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// name returns the application name of an instance's database sessions.
func name(slot int) string { return fmt.Sprintf("consumer-%d", slot) }

// start starts an instance in a slot.
func (w *world) start(slot int) *instance {
	w.Helper()
	i := &instance{log: filepath.Join(w.logs, fmt.Sprint(len(w.instances))), done: make(chan struct{})}
	log, err := os.Create(i.log)
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = log.Close() }() // The process has a descriptor of its own.
	i.cmd = exec.Command(w.binary, "-postgres", w.url+"&application_name="+name(slot),
		"-kafka", w.broker, "-topic", w.topic, "-batch", fmt.Sprint(batch))
	i.cmd.SysProcAttr = endWithUs()
	i.cmd.Stderr = log
	if err := i.cmd.Start(); err != nil {
		w.Fatal(err)
	}
	w.running[slot] = i
	w.instances = append(w.instances, i)
	go func() {
		_ = i.cmd.Wait()
		close(i.done)
	}()
	return i
}

// killMany produces payments and kills instances, at moments drawn from the seed, until enough
// kills fell into an open transaction. It stops a process before it kills it, and queries
// PostgreSQL for the open transaction in between.
func (w *world) killMany() {
	w.Helper()
	for slot := range w.running {
		w.start(slot)
	}
	for w.kills < killsMin || w.midWork < midWorkMin {
		if w.kills == killsMax {
			w.Fatalf("seed %d: got %d of %d kills in mid work, want %d", w.seed, w.midWork, w.kills, midWorkMin)
		}
		for range 3 {
			w.produce(1+w.random.IntN(60), w.transactions%3 != 1)
		}
		time.Sleep(time.Duration(w.random.Int64N(int64(150 * time.Millisecond))))
		slot := w.random.IntN(instances)
		i := w.running[slot]
		if err := i.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			w.Fatalf("got a program that had ended before the kill: %v\n%s", err, i.logged())
		}
		var open bool
		w.row(&open, `select exists (select from pg_stat_activity
			where application_name = $1 and datname = current_database()
				and state in ('active', 'idle in transaction') and query like '%ledger.entries%')`, name(slot))
		if err := i.cmd.Process.Kill(); err != nil {
			w.Fatal(err)
		}
		<-i.done
		if status := i.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
			w.Fatalf("got %s before the kill\n%s", i.cmd.ProcessState, i.logged())
		}
		w.kills++
		if open {
			w.midWork++
		}
		w.start(slot)
	}
}

// finish waits until every committed payment is applied. Then it stops the instances, as a
// deployment does.
func (w *world) finish() {
	w.Helper()
	ends, err := w.admin.ListCommittedOffsets(w.Context(), w.topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		w.Fatal(err)
	}
	deadline := time.Now().Add(testTimeout)
	for partition := range int32(partitions) {
		end, _ := ends.Lookup(w.topic, partition)
		for next := int64(-1); next < end.Offset; time.Sleep(10 * time.Millisecond) {
			const get = `select coalesce((select next from ledger.offsets where topic = $1 and partition = $2), 0)`
			w.row(&next, get, w.topic, partition)
			if time.Now().After(deadline) {
				w.Fatalf("seed %d: got offset %d of partition %d, want %d", w.seed, next, partition, end.Offset)
			}
		}
	}
	for slot, i := range w.running {
		if i == nil {
			continue
		}
		for !strings.Contains(i.logged(), "started") { // It handles the signal from then on.
			if time.Now().After(deadline) {
				w.Fatalf("got no start of the program\n%s", i.logged())
			}
			time.Sleep(10 * time.Millisecond)
		}
		if err := i.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			w.Fatal(err)
		}
		select {
		case <-i.done:
		case <-time.After(testTimeout):
			w.Fatalf("got a program that runs %s after SIGTERM, want its end", testTimeout)
		}
		if code := i.cmd.ProcessState.ExitCode(); code != 0 {
			w.Errorf("got %s after SIGTERM, want exit code 0\n%s", i.cmd.ProcessState, i.logged())
		}
		w.running[slot] = nil
	}
}

// contended returns how often an instance found that the other one was faster.
func (w *world) contended() (n int) {
	for _, i := range w.instances {
		n += strings.Count(i.logged(), "another instance was faster")
	}
	return n
}

// verdict compares the ledger with the payments that were committed to the topic.
type verdict struct {
	entries    int
	doubles    int // Entries of a payment beyond its first.
	missing    int // Payments without an entry.
	unexpected int // Entries of payments that were never committed.
	wrong      int // Entries with another account, currency or amount.
	sums       int // Balances that are not the sum of the payments.
}

// judge reads the ledger and returns the verdict.
func (w *world) judge() (v verdict) {
	w.Helper()
	rows, err := w.db.Query(w.Context(), `select payment_id, account, currency, amount from ledger.entries`)
	if err != nil {
		w.Fatal(err)
	}
	seen := map[string]bool{}
	for rows.Next() {
		var id string
		var e entry
		if err := rows.Scan(&id, &e.account, &e.currency, &e.amount); err != nil {
			w.Fatal(err)
		}
		v.entries++
		switch paid, ok := w.paid[id]; {
		case !ok:
			v.unexpected++
		case seen[id]:
			v.doubles++
		case paid != e:
			v.wrong++
		}
		seen[id] = true
	}
	if rows.Err() != nil {
		w.Fatal(rows.Err())
	}
	type total struct{ balance, entries int64 }
	sums := map[entry]total{}
	for id, e := range w.paid {
		if !seen[id] {
			v.missing++
		}
		of := entry{account: e.account, currency: e.currency}
		sums[of] = total{sums[of].balance + e.amount, sums[of].entries + 1}
	}
	rows, err = w.db.Query(w.Context(), `select account, currency, balance, entries from ledger.balances`)
	if err != nil {
		w.Fatal(err)
	}
	for rows.Next() {
		var of entry
		var is total
		if err := rows.Scan(&of.account, &of.currency, &is.balance, &is.entries); err != nil {
			w.Fatal(err)
		}
		if sums[of] != is {
			v.sums++
		}
		delete(sums, of)
	}
	if rows.Err() != nil {
		w.Fatal(rows.Err())
	}
	v.sums += len(sums) // Missing balances.
	return v
}

// row scans the only value of a query's only row.
func (w *world) row(into any, sql string, args ...any) {
	w.Helper()
	if err := w.db.QueryRow(w.Context(), sql, args...).Scan(into); err != nil {
		w.Fatalf("%s: %v", sql, err)
	}
}
