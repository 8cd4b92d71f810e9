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

// growing is `partitions grow` under way.
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
	intakeAwaited = `select count(*) from pg_locks where locktype = 'advisory' and classid = 1886413923 and not granted
		and database = (select oid from pg_database where datname = current_database())`
	intakeClosed = `select count(*) from pg_locks where locktype = 'advisory' and classid = 1886413923 and granted
		and mode = 'ExclusiveLock'
		and database = (select oid from pg_database where datname = current_database())`
	recordAwaited = `select count(*) from pg_locks where relation = 'topic_partitions'::regclass
		and mode = 'RowExclusiveLock' and not granted`
	sleeps = `select count(*) from pg_stat_activity where datname = current_database()
		and wait_event = 'PgSleep'`
	recorded = `select count(*) / 24 from topic_partitions`
)

// TestGrow_Killed: the operator's process is killed at each step of a growth. The intake is open
// again, payments are taken and sent, the same command goes on from there, and each payment is in
// the topic once.
func TestGrow_Killed(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		unsent  int      // Payments that wait, with nobody to send them.
		hold    []string // What keeps the process at the step: the test's own session does it, and ends.
		reached string   // Counts 1 at the step.
		after   string
	}{
		"Closing":   {0, []string{`select pg_advisory_lock_shared(1886413923, 0)`}, intakeAwaited, ``},
		"Draining":  {12, nil, intakeClosed, ``},
		"Recording": {0, []string{`begin`, `lock table topic_partitions in share mode`}, recordAwaited, ``},
		"Committing": {0, []string{
			`create function hold() returns trigger language plpgsql
				as $$ begin perform pg_sleep(5); return null; end $$`,
			`create constraint trigger hold after insert on topic_partitions deferrable initially deferred
				for each row execute function hold()`,
		}, sleeps, `drop trigger hold on topic_partitions`},
		"Recorded": {0, nil, recorded, ``}, // It may have ended by then.
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
					t.Errorf("it had ended: nothing was tested\n%s", grow.output)
				}
				return nil
			})
			if row.after != "" {
				i.execute(t, row.after)
			}
			create(t, c) // The intake is open.
			i.launch(t, "sender")
			told, err := command(t, i.env, "partitions", "grow", "24").CombinedOutput()
			if err != nil && !strings.Contains(string(told), "there are 24 partitions already") {
				t.Fatalf("grow again: %v\n%s", err, told)
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
				t.Error("no payment is in a new partition")
			}
			if n := i.count(t, `select count(distinct (topic_id, delivery)) * 100 + count(*)
				from topic_partitions`); n != 124 {
				t.Errorf("partitions are of %d kinds and %d", n/100, n%100)
			}
		})
	}
}

// TestGrow_ChangedMeanwhile: while the intake is closed and the rest is being sent, another
// operator changes all partitions' delivery, or halts one. New partitions are as the others are by
// then; with one halted there are none.
func TestGrow_ChangedMeanwhile(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ change, told, want string }{
		"Delivery": {`update topic_partitions set delivery = 'locked'`, "the topic has 13 partitions", `13 locked`},
		"Halted": {`update topic_partitions set state = 'halted', reason = 'a test' where partition = 2`,
			"partition 2 is halted (a test)", `12 fenced`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := install(t)
			i.bulk(t, 12)
			grow := i.startGrow(t, 13)
			eventually(t, "the create gate is closed", func() error {
				if i.count(t, intakeClosed) != 1 {
					return errNotYet
				}
				return nil
			})
			i.execute(t, row.change)
			// As if a sender had come.
			i.execute(t, `update payments set status = 'sent', sent_at = now(), kafka_offset = 0`)
			_ = grow.cmd.Wait()
			if !strings.Contains(grow.output.String(), row.told) {
				t.Errorf("told: %s", grow.output)
			}
			i.onDatabase(t, func(conn *pgx.Conn) error {
				var got string
				err := conn.QueryRow(t.Context(),
					`select string_agg(n || ' ' || delivery, ', ') from (select delivery, count(*) as n
						from topic_partitions group by delivery) as d`).Scan(&got)
				if got != row.want {
					t.Errorf("partitions are %s, want %s", got, row.want)
				}
				return err
			})
		})
	}
}

// TestMode_ManyPartitions: the delivery of many partitions is changed with a bounded number of
// database sessions, beside those of the senders.
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
				t.Errorf("%d partitions were changed: %v\n%s", n, err, output.String())
			}
			return nil
		default:
			return errNotYet
		}
	})
	if most < 2 || most > sessionsMax {
		t.Errorf("%d sessions at once, want several, and at most %d", most, sessionsMax)
	}
}
