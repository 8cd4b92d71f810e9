package integration

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/test/parts"
)

// growing is a running `partitions grow`.
type growing struct {
	cmd    *exec.Cmd
	output *bytes.Buffer
}

func (i *installation) startGrow(t *testing.T, to int) growing {
	t.Helper()
	g := growing{command(t, i.env, "partitions", "grow", fmt.Sprint(to)), &bytes.Buffer{}}
	g.cmd.SysProcAttr = endWithUs()
	g.cmd.Stdout, g.cmd.Stderr = g.output, g.output
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return g
}

const (
	gateAwaited = `select count(*) from pg_locks where locktype = 'advisory' and classid = 1886413923 and not granted
		and database = (select oid from pg_database where datname = current_database())`
	gateClosed = `select count(*) from pg_locks where locktype = 'advisory' and classid = 1886413923 and granted
		and mode = 'ExclusiveLock'
		and database = (select oid from pg_database where datname = current_database())`
	recordAwaited = `select count(*) from pg_locks where relation = 'topic_partitions'::regclass
		and mode = 'RowExclusiveLock' and not granted`
	sleeps = `select count(*) from pg_stat_activity where datname = current_database()
		and wait_event = 'PgSleep'`
	recorded = `select count(*) / 24 from topic_partitions`
)

// TestGrow_Killed kills the operator's process at each step of a growth. Then the create gate is
// open again, and payments are taken and sent. The same command continues from there, and each
// payment is in the topic once.
func TestGrow_Killed(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		// unsent is the number of payments that wait. No sender runs.
		unsent int
		// hold keeps the process at the step. The test runs it in its own session, and ends that.
		hold []string
		// reached is a query that returns 1 at the step.
		reached string
		// after is executed after the kill.
		after string
	}{
		"Closing":   {0, []string{`select pg_advisory_lock_shared(1886413923, 0)`}, gateAwaited, ``},
		"Draining":  {12, nil, gateClosed, ``},
		"Recording": {0, []string{`begin`, `lock table topic_partitions in share mode`}, recordAwaited, ``},
		"Committing": {0, []string{
			`create function hold() returns trigger language plpgsql
				as $$ begin perform pg_sleep(5); return null; end $$`,
			`create constraint trigger hold after insert on topic_partitions deferrable initially deferred
				for each row execute function hold()`,
		}, sleeps, `drop trigger hold on topic_partitions`},
		"Recorded": {0, nil, recorded, ``}, // The process may have ended.
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := install(t)
			i.bulk(t, row.unsent)
			c := newClient(t, i.key, i.launch(t, "api").api)
			i.onDatabase(t, func(conn *pgx.Conn) error {
				for _, sql := range row.hold {
					if _, err := conn.Exec(t.Context(), sql); err != nil {
						return err
					}
				}
				grow := i.startGrow(t, 24)
				eventually(t, "the step", func() error {
					if i.count(t, row.reached) != 1 {
						return errNotYet
					}
					return nil
				})
				_ = grow.cmd.Process.Kill()
				if err := grow.cmd.Wait(); err == nil && name != "Recorded" {
					t.Errorf("got a process that has ended, want it at the step: nothing was tested\n%s", grow.output)
				}
				return nil
			})
			if row.after != "" {
				i.execute(t, row.after)
			}
			create(t, c) // The create gate is open.
			i.launch(t, "sender")
			printed, err := command(t, i.env, "partitions", "grow", "24").CombinedOutput()
			if err != nil && !strings.Contains(string(printed), "there are 24 partitions already") {
				t.Fatalf("the second grow: got error %v, want none\n%s", err, printed)
			}
			const more = 60
			for n := range more {
				if _, err := c.Create(t.Context(), newKey(), sample(fmt.Sprint(n))); err != nil {
					t.Fatal(err)
				}
			}
			i.drained(t)
			i.wantClean(t, int64(row.unsent+1+more))
			if n := i.count(t, `select count(*) from payments where partition >= 12`); n == 0 {
				t.Error("got no payment in a new partition, want some")
			}
			if n := i.count(t, `select count(distinct (topic_id, delivery)) * 100 + count(*)
				from topic_partitions`); n != 124 {
				t.Errorf("got %d kinds of partitions and %d partitions, want 1 and 24", n/100, n%100)
			}
		})
	}
}

// TestGrow_ChangedConcurrently has another operator change the delivery of all partitions, or halt
// one, while the create gate is closed and waiting payments are sent. New partitions get the
// delivery that the others have then. With a halted partition there are no new ones.
func TestGrow_ChangedConcurrently(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ change, printed, want string }{
		"Delivery": {`update topic_partitions set delivery = 'locked'`, "the topic has 13 partitions", `13 locked`},
		"Halted": {
			`update topic_partitions set state = 'halted', reason = 'a test' where partition = 2`,
			"partition 2 is halted (a test)", `12 fenced`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := install(t)
			i.bulk(t, 12)
			grow := i.startGrow(t, 13)
			eventually(t, "the create gate is closed", func() error {
				if i.count(t, gateClosed) != 1 {
					return errNotYet
				}
				return nil
			})
			i.execute(t, row.change)
			// All payments are marked as by a sender.
			i.execute(t, `update payments set status = 'sent', sent_at = now(), kafka_offset = 0`)
			_ = grow.cmd.Wait()
			if !strings.Contains(grow.output.String(), row.printed) {
				t.Errorf("got the output %s, want %q in it", grow.output, row.printed)
			}
			i.onDatabase(t, func(conn *pgx.Conn) error {
				var got string
				err := conn.QueryRow(t.Context(),
					`select string_agg(n || ' ' || delivery, ', ') from (select delivery, count(*) as n
						from topic_partitions group by delivery) as d`).Scan(&got)
				if got != row.want {
					t.Errorf("got partitions %s, want %s", got, row.want)
				}
				return err
			})
		})
	}
}

// TestMode_ManyPartitions changes the delivery of many partitions with a bounded number of database
// sessions, next to those of the senders.
func TestMode_ManyPartitions(t *testing.T) {
	t.Parallel()
	const partitions, sessionsMax = 45, 20
	i := installIn(t, parts.EmptyPostgres(t), parts.Kafka(t), nil, locked,
		map[string]string{"PAYLATCH_PARTITIONS": fmt.Sprint(partitions)})
	mode := command(t, i.env, "partitions", "mode", "fenced")
	var output bytes.Buffer
	mode.SysProcAttr, mode.Stdout, mode.Stderr = endWithUs(), &output, &output
	if err := mode.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- mode.Wait() }()
	most := 0
	eventually(t, "all are changed", func() error {
		most = max(most, i.count(t, `select count(*) from pg_stat_activity where datname = current_database()
			and application_name = 'paylatch sender'`))
		select {
		case err := <-done:
			if n := strings.Count(output.String(), " is fenced:"); err != nil || n != partitions {
				t.Errorf("got %d partitions changed and error %v, want %d:\n%s", n, err, partitions, output.String())
			}
			return nil
		default:
			return errNotYet
		}
	})
	if most < 2 || most > sessionsMax {
		t.Errorf("got %d sessions at once, want 2 to %d", most, sessionsMax)
	}
}
