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
	batch      = 20 // Small, so that there are many transactions to be killed in.
	instances  = 2
	killsMin   = 25
	midWorkMin = 6   // So many of the kills must fall between the begin and the end of a transaction that holds entries.
	killsMax   = 200 // To give up at.
	testMax    = 2 * time.Minute
)

// The story: two instances read a topic in which every third transaction is aborted, and are killed (-9) again and again, many times while their
// transaction is open. Then each committed payment must be in the ledger once, no other must be, and the balances must be the sums.
//
// The controls are the same program with one line changed, and must be found out by the same verdict: it would be worth nothing otherwise.
func TestConsumer(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		old, new string // The change to main.go.
		caught   func(verdict) int
	}{
		{name: "AsItIs"},
		{"ControlEffectApart", "tx.Exec(ctx, effect,", "c.db.Exec(ctx, effect,", func(v verdict) int { return v.doubles }},
		{"ControlOffsetApart", "tx.Exec(ctx, advance,", "c.db.Exec(ctx, advance,", func(v verdict) int { return v.missing }},
		{"ControlUnconditional", "and next = $4`", "and $4::bigint >= 0`", func(v verdict) int { return v.doubles }},
		{"ControlUncommitted", "kgo.ReadCommitted()", "kgo.ReadUncommitted()", func(v verdict) int { return v.strangers }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, build(t, test.old, test.new), rand.Uint64())
			w.killMany()
			w.settle()
			v := w.judge()
			t.Logf("seed %d: %d kills, %d of them in mid work; %d transactions, %d aborted; contended %d times; %+v",
				w.seed, w.kills, w.midWork, w.transactions, w.aborted, w.contended(), v)
			if w.aborted == 0 || w.kills < killsMin || w.midWork < midWorkMin {
				t.Fatal("nothing was tested: see the figures above")
			}
			if test.caught != nil {
				if test.caught(v) == 0 || v.sums == 0 {
					t.Error("the changed program was not found out: the verdict is worth nothing")
				}
				return
			}
			if v != (verdict{entries: len(w.paid)}) {
				t.Errorf("not exactly once: of %d payments, %+v", len(w.paid), v)
			}
			if w.contended() == 0 {
				t.Error("the instances never met at a partition")
			}
		})
	}
}

// An event of a type that is not known stops the program and is named; nothing from it on is applied, however often the program is started again.
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
		case <-time.After(testMax):
			t.Fatal("still running")
		}
		if code := i.cmd.ProcessState.ExitCode(); code != 1 {
			t.Errorf("exit code %d", code)
		}
		for _, want := range []string{"created.v2", fmt.Sprintf("/%d offset %d:", unknown.Partition, unknown.Offset)} {
			if log := i.logged(); !strings.Contains(log, want) {
				t.Errorf("the log does not hold %q:\n%s", want, log)
			}
		}
		w.running[0] = nil
	}
	var n int
	w.row(&n, `select count(*) from ledger.entries where payment_id = $1`, string(unknown.Key))
	var next int64
	w.row(&next, `select next from ledger.offsets where partition = $1`, unknown.Partition)
	if n != 0 || next > unknown.Offset {
		t.Errorf("%d entries of the unknown event at %d, and the partition is at %d", n, unknown.Offset, next)
	}
}

// A topic that was deleted and made anew has other records at the same offsets.
func TestConsumer_TopicMadeAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, build(t, "", ""), rand.Uint64())
	w.produce(10, true)
	w.start(0)
	w.settle()
	if _, err := w.admin.DeleteTopic(t.Context(), w.topic); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(testMax)
	for _, err := w.admin.CreateTopic(t.Context(), partitions, 1, nil, w.topic); err != nil; _, err = w.admin.CreateTopic(t.Context(), partitions, 1, nil, w.topic) {
		if time.Now().After(deadline) { // A real broker deletes in its own time.
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	i := w.start(0)
	select {
	case <-i.done:
	case <-time.After(testMax):
		t.Fatal("still running")
	}
	if log := i.logged(); i.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(log, "is not the one that was applied") {
		t.Errorf("%s\n%s", i.cmd.ProcessState, log)
	}
	w.running[0] = nil
}

// build compiles the program with one text of main.go replaced, if there is one; the text must be there just once.
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
			t.Fatalf("main.go holds %q %d times", old, n)
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
	binary, url, broker, topic string
	eventType                  string
	logs                       string // A directory.
	seed                       uint64
	random                     *rand.Rand
	db                         *pgxpool.Pool
	producer                   *kgo.Client
	admin                      *kadm.Client

	running                               [instances]*instance
	instances                             []*instance // All that were ever started.
	kills, midWork, transactions, aborted int
	paid                                  map[string]entry // What was committed to the topic, by payment.
}

type entry struct {
	account, currency string
	amount            int64
}

func newWorld(t *testing.T, binary string, seed uint64) *world {
	t.Helper()
	w := &world{
		T: t, binary: binary, url: parts.EmptyPostgres(t), broker: parts.Kafka(t), topic: parts.Topic(), eventType: eventType, logs: t.TempDir(),
		seed: seed, random: rand.New(rand.NewPCG(seed, 0)), paid: map[string]entry{},
	}
	var err error
	if w.db, err = pgxpool.New(t.Context(), w.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.db.Close)
	if w.producer, err = kgo.NewClient(kgo.SeedBrokers(w.broker), kgo.TransactionalID(w.topic), kgo.RecordPartitioner(kgo.ManualPartitioner())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.producer.Close)
	w.admin = kadm.NewClient(w.producer)
	if _, err := w.admin.CreateTopic(t.Context(), partitions, 1, nil, w.topic); err != nil {
		t.Fatal(err)
	}
	// A ledger that takes its time: it makes each transaction long enough to be killed in, the control's and the program's alike.
	if _, err := w.db.Exec(t.Context(), schema+`
		create function ledger.take_time() returns trigger language plpgsql as $$ begin perform pg_sleep(0.01); return null; end $$;
		create trigger take_time after insert on ledger.entries for each statement execute function ledger.take_time();`); err != nil {
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

// produce makes one transaction of n payments over all partitions, and ends it.
func (w *world) produce(n int, commit bool) []*kgo.Record {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), testMax)
	defer cancel()
	if err := w.producer.BeginTransaction(); err != nil {
		w.Fatal(err)
	}
	var records []*kgo.Record
	for range n {
		id := uuid.NewString()
		e := entry{fmt.Sprintf("iban DE%d", w.random.IntN(5)), []string{"EUR", "USD"}[w.random.IntN(2)], 1 + w.random.Int64N(100_000)}
		value := fmt.Sprintf(`{"id":%q,"tenant":"acme","seq":1,"amount":%d,"currency":%q,"originator":{"id":"567","name":"Y"},`+
			`"beneficiary":{"id":"123","name":"X"},"sender":{"type":"checking","number":"765543322"},`+
			`"receiver":{"type":"iban","number":%q},"created_at":"2026-11-24T12:00:00.000000Z"}`, id, e.amount, e.currency, strings.TrimPrefix(e.account, "iban "))
		records = append(records, &kgo.Record{
			Topic: w.topic, Partition: w.random.Int32N(partitions), Key: []byte(id), Value: []byte(value),
			Headers: []kgo.RecordHeader{{Key: "ce_type", Value: []byte(w.eventType)}, {Key: "ce_id", Value: []byte(id)}},
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

// instance is a running program.
type instance struct {
	cmd  *exec.Cmd
	log  string // The file it logs to.
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

// name is how PostgreSQL knows the instance.
func name(slot int) string { return fmt.Sprintf("consumer-%d", slot) }

func (w *world) start(slot int) *instance {
	w.Helper()
	i := &instance{log: filepath.Join(w.logs, fmt.Sprint(len(w.instances))), done: make(chan struct{})}
	log, err := os.Create(i.log)
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = log.Close() }() // The program has its own.
	i.cmd = exec.Command(w.binary, "-postgres", w.url+"&application_name="+name(slot), "-kafka", w.broker, "-topic", w.topic, "-batch", fmt.Sprint(batch))
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

// killMany produces and kills, at moments drawn from the seed, until enough kills fell in mid work. A program is frozen before it is killed, so that
// PostgreSQL can be asked meanwhile what the killed one leaves open.
func (w *world) killMany() {
	w.Helper()
	for slot := range w.running {
		w.start(slot)
	}
	for w.kills < killsMin || w.midWork < midWorkMin {
		if w.kills == killsMax {
			w.Fatalf("seed %d: of %d kills only %d fell in mid work", w.seed, w.kills, w.midWork)
		}
		for range 3 {
			w.produce(1+w.random.IntN(60), w.transactions%3 != 1)
		}
		time.Sleep(time.Duration(w.random.Int64N(int64(150 * time.Millisecond))))
		slot := w.random.IntN(instances)
		i := w.running[slot]
		if err := i.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			w.Fatalf("the program ended by itself: %v\n%s", err, i.logged())
		}
		var open bool
		w.row(&open, `select exists (select from pg_stat_activity where application_name = $1 and datname = current_database()
			and state in ('active', 'idle in transaction') and query like '%ledger.entries%')`, name(slot))
		if err := i.cmd.Process.Kill(); err != nil {
			w.Fatal(err)
		}
		<-i.done
		if status := i.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
			w.Fatalf("the program ended by itself: %s\n%s", i.cmd.ProcessState, i.logged())
		}
		w.kills++
		if open {
			w.midWork++
		}
		w.start(slot)
	}
}

// settle waits until everything that is committed is applied, and stops the instances as a deployment does.
func (w *world) settle() {
	w.Helper()
	ends, err := w.admin.ListCommittedOffsets(w.Context(), w.topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		w.Fatal(err)
	}
	deadline := time.Now().Add(testMax)
	for partition := range int32(partitions) {
		end, _ := ends.Lookup(w.topic, partition)
		for next := int64(-1); next < end.Offset; time.Sleep(10 * time.Millisecond) {
			w.row(&next, `select coalesce((select next from ledger.offsets where topic = $1 and partition = $2), 0)`, w.topic, partition)
			if time.Now().After(deadline) {
				w.Fatalf("seed %d: partition %d is at %d and does not get to %d", w.seed, partition, next, end.Offset)
			}
		}
	}
	for slot, i := range w.running {
		if i == nil {
			continue
		}
		for !strings.Contains(i.logged(), "started") { // Sooner it does not yet know the signal.
			if time.Now().After(deadline) {
				w.Fatalf("the program does not start\n%s", i.logged())
			}
			time.Sleep(10 * time.Millisecond)
		}
		if err := i.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			w.Fatal(err)
		}
		select {
		case <-i.done:
		case <-time.After(testMax):
			w.Fatal("the program does not stop")
		}
		if code := i.cmd.ProcessState.ExitCode(); code != 0 {
			w.Errorf("asked to stop, the program ended with %s\n%s", i.cmd.ProcessState, i.logged())
		}
		w.running[slot] = nil
	}
}

// contended counts how often an instance found that the other one was faster.
func (w *world) contended() (n int) {
	for _, i := range w.instances {
		n += strings.Count(i.logged(), "another instance was faster")
	}
	return n
}

// verdict is what the ledger has against what was committed to the topic.
type verdict struct {
	entries   int
	doubles   int // Entries of a payment beyond its first.
	missing   int // Payments without an entry.
	strangers int // Entries of what was never committed.
	wrong     int // Entries with another account, currency or amount.
	sums      int // Balances that are not the sum of the payments.
}

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
			v.strangers++
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
	if rows, err = w.db.Query(w.Context(), `select account, currency, balance, entries from ledger.balances`); err != nil {
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
	v.sums += len(sums) // Balances that are not there.
	return v
}

// row scans the only value of a query's only row.
func (w *world) row(into any, sql string, args ...any) {
	w.Helper()
	if err := w.db.QueryRow(w.Context(), sql, args...).Scan(into); err != nil {
		w.Fatalf("%s: %v", sql, err)
	}
}
