//go:build unix

// Package matrix stops a sender at each named point of fenced delivery and injects each kind of
// fault there: a kill, the loss of its database session, a pause that outlives its ownership, and
// the loss of the next message to Kafka or PostgreSQL, before or after it took effect. In each cell
// every payment must be in the topic once, in order, and marked where it is.
package matrix

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/paylatch/paylatch/internal/auditor"
	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/sender"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/test/parts"
)

func TestMain(m *testing.M) {
	if o := os.Getenv(victims); o != "" {
		victimMain(o)
	}
	parts.Main(m)
}

// patience bounds every wait. No test asserts how long a wait took.
const patience = 90 * time.Second

// atOnce is how many cells run at once. Each has a process, a database and a few connections.
const atOnce = 6

// The faults, which are also the headings of the columns.
const (
	killed        = "kill -9"
	sessionKilled = "session killed"
	zombie        = "zombie"
	lostRequest   = "lost before effect"
	lostResponse  = "lost after effect"
)

var faults = []string{killed, sessionKilled, zombie, lostRequest, lostResponse}

// place is a row of the table: a point, and at which visit of it the victim stops.
type place struct {
	sender.Point
	time int
}

// String returns the heading of the row.
func (p place) String() string {
	if p.time == 0 {
		return string(p.Point)
	}
	return fmt.Sprintf("%s, step %d", p.Point, p.time+1)
}

// places returns all points. Those of a takeover's tail come twice: for its first step, and for the
// second one, when a part is on record.
func places() []place {
	var all []place
	for _, p := range sender.Points() {
		all = append(all, place{Point: p})
	}
	for _, p := range []sender.Point{sender.TakeoverRead, sender.TakeoverMarked, sender.TakeoverCommitted} {
		at := slices.IndexFunc(all, func(a place) bool { return a.Point == sender.TakeoverDone })
		all = slices.Insert(all, at, place{p, 1})
	}
	return all
}

// message is what follows a point and changes something: a request to Kafka, or PostgreSQL's
// COMMIT.
type message struct {
	name    string
	kafka   bool
	matches func([]byte) bool
}

var messages = map[sender.Point]message{
	sender.TakeoverClaimed: {"InitProducerID", true, isRequest(apiInitProducerID)},
	sender.TakeoverMarked:  {"COMMIT", false, isCommit},
	sender.BatchSelected:   {"Produce", true, isRequest(apiProduce)},
	sender.BatchProduced:   {"EndTxn", true, isRequest(apiEndTxn)},
	sender.BatchMarked:     {"COMMIT", false, isCommit},
}

// TestMatrix runs all cells and prints the table.
func TestMatrix(t *testing.T) {
	var mu sync.Mutex
	results := map[string]string{}
	slots := make(chan struct{}, atOnce)
	t.Run("Cells", func(t *testing.T) {
		for _, at := range places() {
			for _, fault := range faults {
				if _, ok := messages[at.Point]; !ok && (fault == lostRequest || fault == lostResponse) {
					continue
				}
				t.Run(strings.ReplaceAll(at.String()+"/"+fault, " ", "_"), func(t *testing.T) {
					t.Parallel()
					slots <- struct{}{}
					t.Cleanup(func() {
						<-slots
						mu.Lock()
						defer mu.Unlock()
						result := "ok"
						if t.Failed() {
							result = "RED"
						}
						results[at.String()+fault] = result
					})
					report := newRig(t).inject(at, fault, func(*sender.Config) {})
					if !clean(report) {
						t.Errorf("got %+v, want each payment once, marked where it is", report)
					}
				})
			}
		}
	})
	print(results)
}

// TestMatrix_Control: in the same cell, a takeover that does not read the tail repeats the batch
// that Kafka has and PostgreSQL has not. The auditor must see it.
func TestMatrix_Control(t *testing.T) {
	t.Parallel()
	report := newRig(t).inject(place{Point: sender.BatchCommitted}, killed,
		func(c *sender.Config) { c.Log = blind{c.Log} })
	if report.Duplicates != batch {
		t.Errorf("%d duplicates, want %d: %+v", report.Duplicates, batch, report)
	}
}

// blind is a log that seems empty.
type blind struct{ sender.Log }

func (blind) Read(context.Context, string, int32, int64, int64, func(kafka.Record) error) error {
	return nil
}

func print(results map[string]string) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintln(w, "\nAFTER THE POINT\t"+strings.ToUpper(strings.Join(faults, "\t"))+
		"\tTHE MESSAGE THAT IS LOST")
	for _, at := range places() {
		_, _ = fmt.Fprint(w, at)
		for _, fault := range faults {
			_, _ = fmt.Fprint(w, "\t", cmp.Or(results[at.String()+fault], "-"))
		}
		_, _ = fmt.Fprintln(w, "\t"+cmp.Or(messages[at.Point].name, "none that changes anything"))
	}
	_ = w.Flush()
	fmt.Printf("%d cells\n", len(results))
}

func clean(r auditor.Report) bool {
	return r.OK() && r.Unsent == 0 && r.NotJudged == (auditor.NotJudged{}) && r.Records == r.Payments
}

// rig is an installation of one partition, with waiting payments.
type rig struct {
	*testing.T
	url, broker, topic string
	sql                *pgxpool.Pool
	store              *store.Store
	cluster            *kafka.Cluster
	tenant             payment.Tenant
	// ids are those of the payments, in the order of their creation.
	ids []string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{T: t, url: parts.Postgres(t), broker: parts.Kafka(t), topic: parts.Topic()}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	r.sql, err = pgxpool.New(r.bounded(), r.url)
	must(err)
	t.Cleanup(r.sql.Close)
	r.store, err = store.Open(r.bounded(), r.url, 2)
	must(err)
	t.Cleanup(r.store.Close)
	r.cluster, err = kafka.NewCluster(brokers.At(r.broker))
	must(err)
	t.Cleanup(r.cluster.Close)
	must(r.cluster.CreateTopic(r.bounded(), r.topic, 1, 1))
	var ranges []kafka.Range
	r.until("the topic has a leader", func() bool {
		ranges, err = r.cluster.Ranges(r.bounded(), r.topic)
		return err == nil
	})
	must(r.store.InitPartitions(r.bounded(), r.topic, ranges[0].TopicID, store.DeliveryFenced, []int64{0}))
	r.tenant, err = r.store.CreateTenant(r.bounded(), "acme")
	must(err)
	r.create(3 * batch)
	return r
}

func (r *rig) bounded() context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), patience)
	r.Cleanup(cancel)
	return ctx
}

func (r *rig) until(what string, ok func() bool) {
	r.Helper()
	for ctx := r.bounded(); !ok(); time.Sleep(10 * time.Millisecond) {
		if ctx.Err() != nil {
			r.Fatalf("never: %s", what)
		}
	}
}

func (r *rig) count(sql string) (n int) {
	r.Helper()
	if err := r.sql.QueryRow(r.bounded(), sql).Scan(&n); err != nil {
		r.Fatal(err)
	}
	return n
}

// create creates more payments of one sender account.
func (r *rig) create(n int) {
	r.Helper()
	for range n {
		key, err := payment.ParseKey(fmt.Sprintf("order-%06d", len(r.ids)))
		if err != nil {
			r.Fatal(err)
		}
		p, err := payment.New(r.tenant, key, payment.Content{
			Amount: "1", Currency: "EUR",
			Originator: payment.PartyContent{ID: "1", Name: "Y"}, Beneficiary: payment.PartyContent{ID: "2", Name: "X"},
			Sender:   payment.AccountContent{Type: "checking", Number: "1"},
			Receiver: payment.AccountContent{Type: "checking", Number: "2"},
		})
		if err != nil {
			r.Fatal(err)
		}
		p, _, err = r.store.Create(r.bounded(), p)
		if err != nil {
			r.Fatal(err)
		}
		r.ids = append(r.ids, p.ID.String())
	}
}

// endOwner ends the session that owns the partition, and endSenders those of all senders.
const (
	// What ends the session that owns the partition, and what ends all of a sender's.
	endOwner = `select count(pg_terminate_backend(pid)) from pg_locks where locktype = 'advisory' and granted
		and classid = 1886413922 and database = (select oid from pg_database where datname = current_database())`
	endSenders = `select count(pg_terminate_backend(pid)) from pg_stat_activity
		where application_name = 'paylatch sender' and datname = current_database()`
	owner = `select coalesce(max(pid), 0) from pg_locks where locktype = 'advisory' and granted
		and classid = 1886413922 and database = (select oid from pg_database where datname = current_database())`
	unsent = `select count(*) from payments where status = 'created'`
)

// inject injects the fault into a sender at the point, waits until the remaining senders have sent
// all, sends some more, and audits. configure changes the configuration of the senders other than
// the victim.
func (r *rig) inject(at place, fault string, configure func(*sender.Config)) auditor.Report {
	r.Helper()
	if strings.HasPrefix(string(at.Point), "takeover") {
		r.leaveTail()
	}
	o := order{URL: r.url, Broker: r.broker, Topic: r.topic, Point: at.Point, Time: at.time}
	var through *relay
	if x := messages[at.Point]; fault == lostRequest || fault == lostResponse {
		if x.kafka {
			through = newRelay(r.T, r.broker, x.matches)
			o.Through = through.Addr().String()
		} else {
			parsed, err := url.Parse(r.url)
			if err != nil {
				r.Fatal(err)
			}
			through = newRelay(r.T, parsed.Host, x.matches)
			parsed.Host = through.Addr().String()
			o.URL = parsed.String()
		}
	}
	v := newVictim(r.T, o)
	r.await("the victim is at its point", v.at)

	switch fault {
	case killed:
		v.kill(r.T)
		r.run(configure)
	case sessionKilled:
		r.endOne(endOwner)
		v.resume()
	case zombie:
		if err := v.Process.Signal(syscall.SIGSTOP); err != nil {
			r.Fatal(err)
		}
		r.endOne(endSenders)
		r.run(configure)
		r.drained()
		if err := v.Process.Signal(syscall.SIGCONT); err != nil {
			r.Fatal(err)
		}
		v.resume()
	case lostRequest, lostResponse:
		was := r.count(owner)
		lost := before
		if fault == lostResponse {
			lost = after
		}
		through.arm(lost)
		v.resume()
		r.await("the message is lost", through.fired)
		r.until("the owner has ended its session", func() bool { return r.count(owner) != was })
		through.open()
	}
	r.drained()
	r.create(batch / 2)
	r.drained()
	return r.audit()
}

// leaveTail leaves a batch that Kafka has and PostgreSQL has not, for a takeover to find.
func (r *rig) leaveTail() {
	r.Helper()
	v := newVictim(r.T, order{URL: r.url, Broker: r.broker, Topic: r.topic, Point: sender.BatchCommitted})
	r.await("the predecessor has committed to Kafka", v.at)
	v.kill(r.T)
}

func (r *rig) await(what string, done <-chan struct{}) {
	r.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		r.Fatalf("never: %s", what)
	}
}

// endOne ends sessions, and checks that there were some.
func (r *rig) endOne(sql string) {
	r.Helper()
	if r.count(sql) == 0 {
		r.Fatal("no session was ended: nothing was tested")
	}
}

func (r *rig) drained() {
	r.Helper()
	r.until("all is sent", func() bool { return r.count(unsent) == 0 })
}

// audit waits until no transaction is open, runs the auditor, and checks the order of the records.
func (r *rig) audit() auditor.Report {
	r.Helper()
	var end kafka.Range
	r.until("every transaction is decided", func() (ok bool) {
		var err error
		end, err = r.cluster.Range(r.bounded(), r.topic, 0)
		return err == nil && end.StableEnd == end.End
	})
	report, err := auditor.Audit(r.bounded(), r.store, r.cluster)
	if err != nil {
		r.Fatal(err)
	}
	var got []string
	if err := r.cluster.Read(r.bounded(), r.topic, 0, 0, end.End, func(one kafka.Record) error {
		got = append(got, string(one.Key))
		return nil
	}); err != nil {
		r.Fatal(err)
	}
	if report.Duplicates == 0 && !slices.Equal(got, r.ids) {
		r.Errorf("not in order: %v, want %v", got, r.ids)
	}
	return report
}
