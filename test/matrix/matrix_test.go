//go:build unix

// Package matrix stops a sender at each named point of fenced delivery and lets each kind of fault
// happen there: a kill, the loss of its database session, a pause that outlives its ownership, and
// the loss of the next exchange with Kafka or PostgreSQL, before or after it took effect. In each
// cell every payment must be in the topic once, in order, and marked where it is.
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
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/sender"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/test/parts"
)

func TestMain(m *testing.M) {
	if o := os.Getenv(victims); o != "" {
		suffer(o)
	}
	parts.Main(m)
}

// patience bounds every wait; nothing asserts how long it took.
const patience = 90 * time.Second

// atOnce is how many cells run at a time: each has a process, a database and a few connections.
const atOnce = 6

// The faults, as the columns are headed.
const (
	killed    = "kill -9"
	unleashed = "session killed"
	zombie    = "zombie"
	lostAsk   = "lost before effect"
	lostReply = "lost after effect"
)

var faults = []string{killed, unleashed, zombie, lostAsk, lostReply}

// place is a row of the table: a point, and which time that the victim comes there.
type place struct {
	sender.Point
	time int
}

// String says it as the row is headed.
func (p place) String() string {
	if p.time == 0 {
		return string(p.Point)
	}
	return fmt.Sprintf("%s, step %d", p.Point, p.time+1)
}

// places are all points; those of a take-over's tail for the first step of it, and for the second,
// when a part is on record.
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

// exchange is what follows a point and changes something: Kafka's request of that key, or
// PostgreSQL's COMMIT.
type exchange struct {
	name  string
	kafka bool
	isIt  func([]byte) bool
}

var exchanges = map[sender.Point]exchange{
	sender.TakeoverClaimed: {"InitProducerID", true, isRequest(apiInitProducerID)},
	sender.TakeoverMarked:  {"COMMIT", false, isCommit},
	sender.BatchSelected:   {"Produce", true, isRequest(apiProduce)},
	sender.BatchProduced:   {"EndTxn", true, isRequest(apiEndTxn)},
	sender.BatchMarked:     {"COMMIT", false, isCommit},
}

// TestMatrix runs every cell and prints the table.
func TestMatrix(t *testing.T) {
	var mu sync.Mutex
	results := map[string]string{}
	slots := make(chan struct{}, atOnce)
	t.Run("Cells", func(t *testing.T) {
		for _, at := range places() {
			for _, fault := range faults {
				if _, ok := exchanges[at.Point]; !ok && (fault == lostAsk || fault == lostReply) {
					continue
				}
				t.Run(strings.ReplaceAll(at.String()+"/"+fault, " ", "_"), func(t *testing.T) {
					t.Parallel()
					slots <- struct{}{}
					t.Cleanup(func() {
						<-slots
						mu.Lock()
						defer mu.Unlock()
						results[at.String()+fault] = map[bool]string{true: "RED", false: "ok"}[t.Failed()]
					})
					report := newRig(t).suffer(at, fault, func(*sender.Config) {})
					if !clean(report) {
						t.Errorf("the verdict: %+v", report)
					}
				})
			}
		}
	})
	print(results)
}

// TestMatrix_Control: the same cell with a take-over that does not read the tail repeats the batch
// that Kafka has and PostgreSQL has not, and the verdict sees it.
func TestMatrix_Control(t *testing.T) {
	t.Parallel()
	report := newRig(t).suffer(place{Point: sender.BatchCommitted}, killed,
		func(c *sender.Config) { c.Log = blind{c.Log} })
	if report.Duplicates != batch {
		t.Errorf("%d duplicates, want %d: %+v", report.Duplicates, batch, report)
	}
}

// blind is a log in which nobody finds anything.
type blind struct{ sender.Log }

func (blind) Read(context.Context, string, int32, int64, int64, func(kafka.Record) error) error {
	return nil
}

func print(results map[string]string) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintln(w, "\nAFTER THE POINT\t"+strings.ToUpper(strings.Join(faults, "\t"))+
		"\tTHE EXCHANGE THAT IS LOST")
	for _, at := range places() {
		_, _ = fmt.Fprint(w, at)
		for _, fault := range faults {
			_, _ = fmt.Fprint(w, "\t", cmp.Or(results[at.String()+fault], "-"))
		}
		_, _ = fmt.Fprintln(w, "\t"+cmp.Or(exchanges[at.Point].name, "none that changes anything"))
	}
	_ = w.Flush()
	fmt.Printf("%d cells\n", len(results))
}

func clean(r auditor.Report) bool {
	return r.OK() && r.Unsent == 0 && r.NotJudged == (auditor.NotJudged{}) && r.Records == r.Payments
}

// rig is an installation of one partition, with payments waiting.
type rig struct {
	*testing.T
	url, broker, topic string
	sql                *pgxpool.Pool
	store              *store.Store
	cluster            *kafka.Cluster
	tenant             payment.Tenant
	// The payments', in the order in which they were created.
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
	r.cluster, err = kafka.NewCluster([]string{r.broker})
	must(err)
	t.Cleanup(r.cluster.Close)
	must(r.cluster.CreateTopic(r.bounded(), r.topic, 1, 1))
	var ranges []kafka.Range
	r.until("the topic has a leader", func() bool {
		ranges, err = r.cluster.Ranges(r.bounded(), r.topic)
		return err == nil
	})
	must(r.store.InitPartitions(r.bounded(), r.topic, ranges[0].TopicID, store.Fenced, []int64{0}))
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

// create takes more payments of one sender account.
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
		if p, _, err = r.store.Create(r.bounded(), p); err != nil {
			r.Fatal(err)
		}
		r.ids = append(r.ids, p.ID.String())
	}
}

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

// suffer lets the fault happen to a sender at the point, waits until all is sent, by whoever is
// left, sends some more, and audits. The senders besides the victim are bent.
func (r *rig) suffer(at place, fault string, bend func(*sender.Config)) auditor.Report {
	r.Helper()
	if strings.HasPrefix(string(at.Point), "takeover") {
		r.leaveTail()
	}
	o := order{URL: r.url, Broker: r.broker, Topic: r.topic, Point: at.Point, Time: at.time}
	var through *relay
	if x := exchanges[at.Point]; fault == lostAsk || fault == lostReply {
		if x.kafka {
			through = newRelay(r.T, r.broker, x.isIt)
			o.Through = through.Addr().String()
		} else {
			parsed, err := url.Parse(r.url)
			if err != nil {
				r.Fatal(err)
			}
			through = newRelay(r.T, parsed.Host, x.isIt)
			parsed.Host = through.Addr().String()
			o.URL = parsed.String()
		}
	}
	v := newVictim(r.T, o)
	r.await("the victim is at its point", v.at)

	switch fault {
	case killed:
		v.kill(r.T)
		r.run(bend)
	case unleashed:
		r.endOne(endOwner)
		v.goOn()
	case zombie:
		if err := v.Process.Signal(syscall.SIGSTOP); err != nil {
			r.Fatal(err)
		}
		r.endOne(endSenders)
		r.run(bend)
		r.drained()
		if err := v.Process.Signal(syscall.SIGCONT); err != nil {
			r.Fatal(err)
		}
		v.goOn()
	case lostAsk, lostReply:
		was := r.count(owner)
		through.arm(map[string]when{lostAsk: before, lostReply: after}[fault])
		v.goOn()
		r.await("the exchange is lost", through.fired)
		r.until("the owner has given its session up", func() bool { return r.count(owner) != was })
		through.open()
	}
	r.drained()
	r.create(batch / 2)
	r.drained()
	return r.audit()
}

// leaveTail leaves a batch that Kafka has and PostgreSQL has not, for a take-over to find.
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

// endOne ends sessions, and sees that there were some.
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

// audit has the auditor judge, once every transaction is decided; and looks at the order by itself.
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
