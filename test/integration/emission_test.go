package integration

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/internal/journal"
	"github.com/paylatch/paylatch/internal/kafka"
)

// load creates payments with several workers until it is stopped. stop returns the ids of all
// payments with a 202.
func load(t *testing.T, c *client.Client, workers int) (stop func() []string) {
	t.Helper()
	var (
		over     atomic.Bool
		mu       sync.Mutex
		accepted []string
		all      sync.WaitGroup
	)
	for w := range workers {
		all.Go(func() {
			for n := 0; !over.Load(); n++ {
				created, err := c.Create(context.WithoutCancel(t.Context()), uuid.Must(uuid.NewV7()).String(),
					sample(string(rune('0'+(w+n)%10))))
				if err != nil {
					t.Errorf("create: %v", err)
					return
				}
				mu.Lock()
				accepted = append(accepted, created.ID)
				mu.Unlock()
			}
		})
	}
	return func() []string {
		over.Store(true)
		all.Wait()
		return accepted
	}
}

// repeats returns how many records of the accepted payments are repeated. It fails the test if a
// payment is missing, or if a record is of another payment.
func repeats(t *testing.T, accepted []string, records []kafka.Record) int {
	t.Helper()
	var payments []journal.Payment
	for _, id := range accepted {
		payments = append(payments, journal.Payment{ID: uuid.MustParse(id), Sent: true})
	}
	var read []journal.Record
	for _, r := range records {
		id, err := uuid.ParseBytes(r.Key)
		if err != nil {
			t.Fatalf("record at offset %d: got key %q, want an id: %v", r.Offset, r.Key, err)
		}
		read = append(read, journal.Record{ID: id, Position: client.Position{Offset: r.Offset}})
	}
	c := journal.Compare(payments, read)
	if c.Missing.Count > 0 || c.Unexpected.Count > 0 {
		t.Errorf("of %d accepted payments: got %d missing and %d unexpected records, want none\n%s",
			len(accepted), c.Missing.Count, c.Unexpected.Count,
			strings.Join(append(c.Missing.First, c.Unexpected.First...), "\n"))
	}
	return int(c.Repeated)
}

// TestSender_KilledAndStartedAgain kills the only sender with -9 under load and starts another one,
// three times. Nothing is lost. In fenced delivery nothing is repeated. In locked delivery a kill
// may repeat one batch for each partition.
func TestSender_KilledAndStartedAgain(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(*testing.T) *installation{"Fenced": install, "Locked": installLocked} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			killedAndStartedAgain(t, set(t))
		})
	}
}

func killedAndStartedAgain(t *testing.T, i *installation) {
	const kills, partitions, batchMax = 3, 12, 1000
	api := i.launch(t, "api")
	sender := i.launch(t, "sender")
	stop := load(t, newClient(t, i.key, api.api), 8)
	for n := range kills {
		before := i.count(t, `select count(*) from payments where status = 'sent'`)
		eventually(t, "the sender sends", func() error {
			if i.count(t, `select count(*) from payments where status = 'sent'`) < before+200 {
				return errNotYet
			}
			return nil
		})
		sender.kill()
		t.Logf("kill %d at %d sent", n+1, before)
		sender = i.launch(t, "sender")
	}
	accepted := stop()
	i.drained(t)
	records := i.records(t)
	repeated := repeats(t, accepted, records)
	t.Logf("%d accepted, %d records, %d repeated by %d kills", len(accepted), len(records), repeated, kills)
	if repeated > kills*partitions*batchMax || repeated > 0 && i.repeatsNothing() {
		t.Errorf("got %d repeated, want at most the batches that the kills can have interrupted", repeated)
	}
}

// TestSender_CleanHandOver starts and stops senders cleanly under load. Each payment is in the
// topic once.
func TestSender_CleanHandOver(t *testing.T) {
	t.Parallel()
	i := install(t)
	api := i.launch(t, "serve")
	stop := load(t, newClient(t, i.key, api.api), 8)
	for range 3 {
		second, third := i.launch(t, "sender"), i.launch(t, "sender")
		before := i.count(t, `select count(*) from payments where status = 'sent'`)
		eventually(t, "all of them send", func() error {
			if i.count(t, `select count(*) from payments where status = 'sent'`) < before+500 {
				return errNotYet
			}
			return nil
		})
		for _, p := range []*process{second, third} {
			if err := p.stop(t); err != nil {
				t.Error(err)
			}
		}
	}
	accepted := stop()
	i.drained(t)
	if repeated := repeats(t, accepted, i.records(t)); repeated != 0 {
		t.Errorf("got %d repeated records, want 0", repeated)
	}
	t.Logf("%d payments, each once", len(accepted))
}

// TestSender_BrokerAway stops the broker for 10 s under load. The API takes payments throughout.
// Nothing is lost, and all are sent once the broker is back.
func TestSender_BrokerAway(t *testing.T) {
	t.Parallel()
	i := installOnOwnBroker(t)
	service := i.launch(t, "serve")
	c := newClient(t, i.key, service.api)
	stop := load(t, c, 4)
	create(t, c)
	i.broker.Stop(t)
	unsent := i.count(t, `select count(*) from payments where status = 'created'`)
	time.Sleep(10 * time.Second) // The outage.
	if grown := i.count(t, `select count(*) from payments where status = 'created'`); grown <= unsent {
		t.Errorf("got %d unsent before the outage and %d at its end, want more: nothing was tested",
			unsent, grown)
	}
	i.broker.Start(t)
	accepted := stop()
	i.drained(t)
	records := i.records(t)
	// The payment that the test itself made is not among those of load.
	repeated := repeats(t, append(accepted, i.others(t, accepted)...), records)
	t.Logf("%d accepted, %d records, %d repeated by responses that the outage lost", len(accepted), len(records),
		repeated)
	if repeated > 0 && i.repeatsNothing() {
		t.Errorf("got %d repeated records, want 0", repeated)
	}
}

// TestSender_Halted has an operator halt one partition. It gets no records, and the others do.
// Resume sends the payments that waited.
func TestSender_Halted(t *testing.T) {
	t.Parallel()
	i := install(t)
	run(t, i.env, "partitions", "halt", "0", "--reason", "a test")
	c := newClient(t, i.key, i.launch(t, "serve").api)
	for range 100 {
		create(t, c)
	}
	eventually(t, "only partition 0 waits", func() error {
		if i.count(t, `select count(*) from payments where status = 'created' and partition <> 0`) > 0 {
			return errNotYet
		}
		return nil
	})
	if n := i.count(t, `select count(*) from payments where status = 'sent' and partition = 0`); n > 0 {
		t.Errorf("got %d payments sent to the halted partition, want 0", n)
	}
	run(t, i.env, "partitions", "resume", "0")
	i.drained(t)
	if records := i.records(t); len(records) != 100 {
		t.Errorf("got %d records, want 100", len(records))
	}
}

// others returns the ids in the table that are not among the given ones.
func (i *installation) others(t *testing.T, given []string) []string {
	t.Helper()
	known := make(map[string]bool, len(given))
	for _, id := range given {
		known[id] = true
	}
	var others []string
	for _, id := range i.ids(t) {
		if !known[id] {
			others = append(others, id)
		}
	}
	return others
}

// TestResume_Choices has two logs that contradict the database. Their partitions halt, and readyz
// names them. A plain resume halts a partition again. A dry run counts what each choice would do,
// and changes nothing.
//
// --resend then sends all waiting payments. --assume-sent marks as many as the lost part of the log
// may have held. The topic does not have them, as the operator has decided.
func TestResume_Choices(t *testing.T) {
	t.Parallel()
	i := install(t)
	i.bulk(t, 120) // 10 for each partition.
	// The state after the log has lost a thousand records.
	i.execute(t, `update topic_partitions set next_offset = 1000 where partition in (3, 4)`)
	api := i.launch(t, "serve")
	halted := func(partition int) {
		t.Helper()
		eventually(t, "the partition halts", func() error {
			if i.count(t, fmt.Sprintf(`select count(*) from topic_partitions where partition = %d and state = 'halted'
				and reason like '%%acknowledged records are lost%%'`, partition)) != 1 {
				return errNotYet
			}
			return nil
		})
	}
	halted(3)
	halted(4)
	// readyz has the result of the last check, which may be a moment old.
	eventually(t, "readyz names the halted partitions", func() error {
		if ready := get(t, api.admin+"/readyz"); !strings.Contains(ready, `"halted_partitions":[3,4]`) {
			return fmt.Errorf("got %s", ready)
		}
		return nil
	})
	if ready := get(t, api.api+"/readyz"); strings.Contains(ready, "halted") {
		t.Errorf("got %s from the address of clients, want no partitions", ready)
	}
	run(t, i.env, "partitions", "resume", "3")
	halted(3)
	printed := run(t, i.env, "partitions", "resume", "3", "--dry-run")
	for _, want := range []string{
		"--resend would", "--assume-sent would", " 10  send, though",
		" 10  mark as sent, though",
	} {
		if !strings.Contains(printed, want) {
			t.Errorf("the dry run: want %q in\n%s", want, printed)
		}
	}
	halted(3)
	run(t, i.env, "partitions", "resume", "3", "--resend")
	run(t, i.env, "partitions", "resume", "4", "--assume-sent", "--in-doubt", "4")
	i.drained(t)
	if r := i.verify(t); r.Missing != 4 || r.Duplicates != 0 || r.Records != 116 {
		t.Errorf("got %+v, want 4 missing, 116 records and no duplicates", r)
	}
}

// TestResume_Lost has marked payments whose records are gone from the end of the log, as after an
// unclean election. --resend sends them again.
func TestResume_Lost(t *testing.T) {
	t.Parallel()
	i := install(t)
	i.bulk(t, 120)
	service := i.launch(t, "serve")
	i.drained(t)
	if err := service.stop(t); err != nil {
		t.Error(err)
	}
	// Ten more are marked, at offsets that the log does not have.
	i.bulk(t, 120)
	i.execute(t, `update payments set status = 'sent', sent_at = now(), kafka_offset = seq + 1000
		where partition = 5 and status = 'created'`)
	i.execute(t, `update topic_partitions set next_offset = 2000 where partition = 5`)
	i.launch(t, "serve")
	eventually(t, "the partition halts", func() error {
		if i.count(t, `select count(*) from topic_partitions where state = 'halted'`) != 1 {
			return errNotYet
		}
		return nil
	})
	run(t, i.env, "partitions", "resume", "5", "--resend")
	i.drained(t)
	i.wantClean(t, 240)
}

// TestMode_UnderLoad changes all partitions from locked to fenced, and back. Payments are taken
// throughout, and a sender of each delivery runs. Each payment is in the topic once.
func TestMode_UnderLoad(t *testing.T) {
	t.Parallel()
	i := installLocked(t)
	service := i.launch(t, "serve") // Locked.
	i.launch(t, "sender", map[string]string{"PAYLATCH_DELIVERY": "fenced"})
	stop := load(t, newClient(t, i.key, service.api), 4)
	for _, mode := range []string{"fenced", "locked"} {
		printed := run(t, i.env, "partitions", "mode", mode)
		if n := strings.Count(printed, " is "+mode+":"); n != 12 {
			t.Errorf("got %d partitions changed, want 12:\n%s", n, printed)
		}
		before := i.count(t, `select count(*) from payments where status = 'sent'`)
		eventually(t, "payments are sent in the new mode", func() error {
			if i.count(t, `select count(*) from payments where status = 'sent'`) < before+300 {
				return errNotYet
			}
			return nil
		})
	}
	accepted := stop()
	i.drained(t)
	i.wantClean(t, int64(len(accepted)))
}
