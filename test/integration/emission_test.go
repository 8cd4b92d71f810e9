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

// load creates payments from several workers until it is stopped; stop returns the ids of all that
// were answered 202.
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

// repeats returns how many records of the accepted payments are repeated. It fails if a payment is
// missing, and on a record of another payment.
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
			t.Fatalf("record at offset %d: %v", r.Offset, err)
		}
		read = append(read, journal.Record{ID: id, Position: client.Position{Offset: r.Offset}})
	}
	c := journal.Compare(payments, read)
	if c.Missing.Count > 0 || c.Unexpected.Count > 0 {
		t.Errorf("of %d accepted payments %d are missing in the topic; %d records are of other payments\n%s",
			len(accepted), c.Missing.Count, c.Unexpected.Count,
			strings.Join(append(c.Missing.First, c.Unexpected.First...), "\n"))
	}
	return int(c.Repeated)
}

// TestSender_KilledAndStartedAgain: under load, the only sender is killed with -9 and another one
// started, three times. Nothing is lost. Nothing is repeated in fenced delivery; what a kill
// interrupted may be in locked delivery: at most one batch for each partition.
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
		t.Errorf("%d repeated, more than the batches that the kills can have interrupted", repeated)
	}
}

// TestSender_CleanHandOver: under load, three replicas come and go cleanly. Each payment is in the
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
		t.Errorf("%d records repeated", repeated)
	}
	t.Logf("%d payments, each once", len(accepted))
}

// TestSender_BrokerAway: the broker goes away for 10 s under load. The API goes on taking payments,
// nothing is lost, and all is sent once the broker is back.
func TestSender_BrokerAway(t *testing.T) {
	t.Parallel()
	i := installOnOwnBroker(t)
	service := i.launch(t, "serve")
	c := newClient(t, i.key, service.api)
	stop := load(t, c, 4)
	create(t, c)
	i.broker.Stop(t)
	unsent := i.count(t, `select count(*) from payments where status = 'created'`)
	time.Sleep(10 * time.Second) // The outage itself.
	if grown := i.count(t, `select count(*) from payments where status = 'created'`); grown <= unsent {
		t.Errorf("%d unsent before the outage and %d at its end: either it did not happen or no payments were taken",
			unsent, grown)
	}
	i.broker.Start(t)
	accepted := stop()
	i.drained(t)
	records := i.records(t)
	// The test's own payment is not among load's.
	repeated := repeats(t, append(accepted, i.others(t, accepted)...), records)
	t.Logf("%d accepted, %d records, %d repeated by answers that the outage lost", len(accepted), len(records),
		repeated)
	if repeated > 0 && i.repeatsNothing() {
		t.Errorf("%d records repeated", repeated)
	}
}

// TestSender_Halted: a partition that an operator halts is not sent to, the others are, and resume
// sends what waited.
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
		t.Errorf("%d payments were sent to the halted partition", n)
	}
	run(t, i.env, "partitions", "resume", "0")
	i.drained(t)
	if records := i.records(t); len(records) != 100 {
		t.Errorf("%d records of 100 payments", len(records))
	}
}

// others are the payments in the table that are not among the given.
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

// TestResume_Choices: a log that contradicts the database halts its partition, which readyz names,
// and a plain resume halts it again. A dry run counts what the choices would do and changes
// nothing. --resend then sends all that waits; --assume-sent marks as many as may be in what the
// log lost, which the topic lacks: that is what was decided.
func TestResume_Choices(t *testing.T) {
	t.Parallel()
	i := install(t)
	i.bulk(t, 120) // Ten for each partition.
	// As if the log had lost a thousand records.
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
	eventually(t, "readyz names the halted partitions", func() error { // By its last check.
		if ready := get(t, api.api+"/readyz"); !strings.Contains(ready, `"halted_partitions":[3,4]`) {
			return fmt.Errorf("it says %s", ready)
		}
		return nil
	})
	run(t, i.env, "partitions", "resume", "3")
	halted(3)
	told := run(t, i.env, "partitions", "resume", "3", "--dry-run")
	for _, want := range []string{"--resend would", "--assume-sent would", " 10  send, though",
		" 10  mark as sent, though"} {
		if !strings.Contains(told, want) {
			t.Errorf("the dry run does not say %q:\n%s", want, told)
		}
	}
	halted(3)
	run(t, i.env, "partitions", "resume", "3", "--resend")
	run(t, i.env, "partitions", "resume", "4", "--assume-sent", "--in-doubt", "4")
	i.drained(t)
	if r := i.verify(t); r.Missing != 4 || r.Duplicates != 0 || r.Records != 116 {
		t.Errorf("4 payments were assumed to be sent: %+v", r)
	}
}

// TestResume_Lost: records that were marked are gone from the log's end, as after an unclean
// election. --resend sends them again.
func TestResume_Lost(t *testing.T) {
	t.Parallel()
	i := install(t)
	i.bulk(t, 120)
	service := i.launch(t, "serve")
	i.drained(t)
	if err := service.stop(t); err != nil {
		t.Error(err)
	}
	// As if ten more had been marked, at offsets that the log does not have.
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

// TestMode_UnderLoad: while payments are taken, and a sender of each delivery runs, all partitions
// go from locked to fenced, and back. Each payment is in the topic once.
func TestMode_UnderLoad(t *testing.T) {
	t.Parallel()
	i := installLocked(t)
	service := i.launch(t, "serve") // Locked.
	i.launch(t, "sender", map[string]string{"PAYLATCH_DELIVERY": "fenced"})
	stop := load(t, newClient(t, i.key, service.api), 4)
	for _, mode := range []string{"fenced", "locked"} {
		told := run(t, i.env, "partitions", "mode", mode)
		if n := strings.Count(told, " is "+mode+":"); n != 12 {
			t.Errorf("%d partitions were changed:\n%s", n, told)
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
