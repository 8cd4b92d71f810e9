package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/operator"
	"github.com/paylatch/paylatch/internal/store"
	"github.com/paylatch/paylatch/test/parts"
)

func TestMain(m *testing.M) { parts.Main(m) }

func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// patient is an installation of one test, all of it real.
type patient struct {
	t     testing.TB
	url   string
	sql   *pgxpool.Pool
	topic string
	admin *kadm.Client
	Installation
}

// newPatient sets up an installation with two partitions.
func newPatient(t testing.TB, broker string) *patient {
	t.Helper()
	p := &patient{t: t, url: parts.Postgres(t), topic: parts.Topic()}
	var err error
	p.sql, err = parts.Pool(bounded(t), p.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.sql.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	p.admin = kadm.NewClient(client)
	p.Cluster, err = kafka.NewCluster(brokers.At(broker))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Cluster.Close)
	p.Connect, p.Connections = p.connect, 4
	return p
}

func (p *patient) connect(ctx context.Context) (*store.Examination, error) {
	return store.Examine(ctx, p.url)
}

// setUp creates the topic, and records it.
func (p *patient) setUp() *patient {
	p.t.Helper()
	s, err := store.Open(bounded(p.t), p.url, 2)
	if err != nil {
		p.t.Fatal(err)
	}
	defer s.Close()
	topic := operator.Topic{Name: p.topic, Partitions: 2, Delivery: store.DeliveryFenced}
	if err := operator.InitPartitions(bounded(p.t), s, p.Cluster, topic); err != nil {
		p.t.Fatal(err)
	}
	return p
}

func (p *patient) exec(sql string) {
	p.t.Helper()
	if _, err := p.sql.Exec(bounded(p.t), sql); err != nil {
		p.t.Fatal(err)
	}
}

// setTopic changes a setting of the topic.
func (p *patient) setTopic(key, value string) {
	p.t.Helper()
	results, err := p.admin.AlterTopicConfigs(bounded(p.t), []kadm.AlterConfig{{
		Op: kadm.SetConfig, Name: key, Value: &value,
	}}, p.topic)
	if err != nil || len(results) != 1 || results[0].Err != nil {
		p.t.Fatalf("set %s: %+v, %v", key, results, err)
	}
}

// find returns the findings with a name, of which there must be one at least.
func find(t testing.TB, r Report, name string) []Finding {
	t.Helper()
	var found []Finding
	for _, f := range r.Findings {
		if f.Name == name {
			found = append(found, f)
		}
	}
	if len(found) == 0 {
		t.Fatalf("no finding %s in %+v", name, r.Findings)
	}
	return found
}

// wantFinding checks a finding, and that what is lost is said exactly if it is not yes.
func wantFinding(t testing.TB, r Report, name string, verdict Verdict, words ...string) {
	t.Helper()
	f := find(t, r, name)[0]
	if f.Verdict != verdict || (f.Lost == "") != (verdict == VerdictYes) {
		t.Errorf("%s: got %+v, want %s", name, f, verdict)
	}
	for _, word := range words {
		if !strings.Contains(f.Detail, word) {
			t.Errorf("%s: got %q, want %q in it", name, f.Detail, word)
		}
	}
}

// TestExamine_Healthy is the control of all other tests: each thing that they take away is there.
func TestExamine_Healthy(t *testing.T) {
	t.Parallel()
	p := newPatient(t, parts.Kafka(t)).setUp()
	p.setTopic("min.insync.replicas", "2")
	p.setTopic("unclean.leader.election.enable", "false")
	p.setTopic("retention.ms", "-1")
	r := p.untilRights(VerdictYes) // A new broker has no transaction coordinator yet.
	for _, name := range []string{
		"database.reachable", "database.version", "database.primary", "database.encoding", "database.triggers_fire",
		"database.tls", "database.server_verified", "database.clock", "database.no_pooler",
		"database.locks_and_sequences", "database.schema", "database.triggers_enabled", "database.sequences_uncached",
		"database.sequences_ahead", "database.rights", "database.connections", "delivery", "partitions_active",
		"kafka.transactions", "kafka.transaction_version", "kafka.topic", "kafka.topic_settings",
		"kafka.min_insync_replicas", "kafka.clean_election", "kafka.retention", "kafka.rights",
	} {
		wantFinding(t, r, name, VerdictYes)
	}
	for _, f := range r.Findings {
		if f.Required && f.Verdict != VerdictYes && f.Name != "database.fsync" { // The tests' server has none.
			t.Errorf("%s is %s: %s", f.Name, f.Verdict, f.Detail)
		}
	}
	wantFinding(t, r, "database.synchronous_standby", VerdictNo)
	wantFinding(t, r, "kafka.tls", VerdictNo)
	wantFinding(t, r, "kafka.authentication", VerdictNo)
	wantFinding(t, r, "kafka.replication_factor", VerdictNo)
}

// TestExamine_Database takes one thing away from the database, and wants it to be named.
func TestExamine_Database(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		harm  func(p *patient)
		want  string
		words []string
	}{
		"Role": {func(p *patient) {
			p.exec(`do $$ begin execute format('alter database %I set session_replication_role = replica',
				current_database()); end $$`)
		}, "database.triggers_fire", []string{"replica"}},
		"Trigger": {
			func(p *patient) { p.exec(`alter table parties disable trigger user`) },
			"database.triggers_enabled",
			[]string{"parties."},
		},
		"TriggerGone": {
			func(p *patient) { p.exec(`drop trigger payments_are_immutable on payments`) },
			"database.triggers_enabled",
			[]string{"payments.payments_are_immutable"},
		},
		"Cache": {
			func(p *patient) { p.exec(`alter sequence payments_seq cache 10`) },
			"database.sequences_uncached",
			[]string{"payments_seq"},
		},
		"CacheSeen": {
			func(p *patient) { p.exec(`alter sequence payments_seq cache 10`) },
			"database.locks_and_sequences",
			[]string{"payments_seq"},
		},
		"SchemaOld": {
			func(p *patient) { p.exec(`update schema_version set version = version - 1`) },
			"database.schema",
			nil,
		},
		"SchemaNone": {
			func(p *patient) { p.exec(`drop table schema_version`) },
			"database.schema",
			[]string{"paylatch migrate up"},
		},
		"Connections": {func(p *patient) { p.Replicas = 10_000 }, "database.connections", []string{"10000 replicas"}},
		"Locked": {
			func(p *patient) { p.exec(`update topic_partitions set delivery = 'locked' where partition = 1`) },
			"delivery",
			[]string{"1 of 2"},
		},
		"Halted": {
			func(p *patient) {
				p.exec(`update topic_partitions set state = 'halted', reason = 'by the test' where partition = 1`)
			},
			"partitions_active",
			[]string{"1 (by the test)"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPatient(t, parts.Kafka(t)).setUp()
			c.harm(p)
			r := Examine(bounded(t), p.Installation)
			wantFinding(t, r, c.want, VerdictNo, c.words...)
			if f := find(t, r, c.want)[0]; f.Required && r.ExactlyOnce != VerdictNo {
				t.Errorf("exactly once: got %s, want no: %s is required", r.ExactlyOnce, f.Name)
			}
		})
	}
}

// TestExamine_Encoding: the service refuses such a database, and the doctor says why.
func TestExamine_Encoding(t *testing.T) {
	t.Parallel()
	p := newPatient(t, parts.Kafka(t))
	p.url = parts.EmptyPostgresAs(t, ` encoding 'LATIN1' lc_collate 'C' lc_ctype 'C' template template0`)
	r := Examine(bounded(t), p.Installation)
	wantFinding(t, r, "database.encoding", VerdictNo, "LATIN1")
	wantFinding(t, r, "database.schema", VerdictNo)
	wantFinding(t, r, "kafka.topic", VerdictUnknown)
}

// TestExamine_Topic takes one thing away from the topic.
func TestExamine_Topic(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		harm    func(p *patient)
		want    string
		verdict Verdict
	}{
		"Compacted": {func(p *patient) { p.setTopic("cleanup.policy", "compact") }, "kafka.topic_settings", VerdictNo},
		"InSync": {
			func(p *patient) { p.setTopic("min.insync.replicas", "1") },
			"kafka.min_insync_replicas", VerdictNo,
		},
		"Unclean": {
			func(p *patient) { p.setTopic("unclean.leader.election.enable", "true") },
			"kafka.clean_election",
			VerdictNo,
		},
		"Retention": {func(p *patient) { p.setTopic("retention.ms", "1000") }, "kafka.retention", VerdictUnknown},
		"Deleted":   {func(p *patient) { p.deleteTopic() }, "kafka.topic", VerdictNo},
		"CreatedAgain": {func(p *patient) {
			p.deleteTopic()
			if _, err := p.admin.CreateTopic(bounded(p.t), 2, 1, nil, p.topic); err != nil {
				p.t.Fatal(err)
			}
		}, "kafka.topic", VerdictNo},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPatient(t, parts.Kafka(t)).setUp()
			c.harm(p)
			wantFinding(t, Examine(bounded(t), p.Installation), c.want, c.verdict)
		})
	}
}

// deleteTopic deletes the topic, and waits until the broker does not list it any more.
func (p *patient) deleteTopic() {
	p.t.Helper()
	if _, err := p.admin.DeleteTopics(bounded(p.t), p.topic); err != nil {
		p.t.Fatal(err)
	}
	for ctx := bounded(p.t); ; time.Sleep(10 * time.Millisecond) {
		topics, err := p.admin.ListTopics(ctx)
		if err == nil && !topics.Has(p.topic) {
			return
		}
		if ctx.Err() != nil {
			p.t.Fatal("the topic is still there")
		}
	}
}

// TestExamine_KafkaRights removes each right of a sender in turn. The doctor names it.
func TestExamine_KafkaRights(t *testing.T) {
	t.Parallel()
	broker := parts.GuardedKafka(t)
	p := newPatient(t, broker.Addr)
	onTopic := func(o kadm.ACLOperation) parts.ACL { return parts.ACL{Operation: o, Resource: "topic " + p.topic} }
	rights := []parts.ACL{
		onTopic(kadm.OpRead), onTopic(kadm.OpWrite), onTopic(kadm.OpDescribeConfigs),
		{Operation: kadm.OpWrite, Resource: "transactional-id " + p.topic + "-"},
		{Operation: kadm.OpClusterAction, Resource: "cluster"},
	}
	broker.Grant(t, rights...)
	broker.CreateTopic(t, p.topic, 2)
	p.setUp()
	wantFinding(t, p.untilRights(VerdictYes), "kafka.rights", VerdictYes)
	for _, right := range rights {
		broker.Revoke(t, right)
		findings := find(t, p.untilRights(VerdictNo), "kafka.rights")
		required := right.Operation != kadm.OpClusterAction
		if !slices.ContainsFunc(findings, func(f Finding) bool {
			return strings.Contains(f.Detail, right.Name()) && f.Required == required
		}) {
			t.Errorf("without %s on %s: got %+v, want it named, required %t",
				right.Name(), right.Resource, findings, required)
		}
		broker.Grant(t, right)
		p.untilRights(VerdictYes)
	}
}

// untilRights examines again until the rights in Kafka have the verdict: a broker takes a moment to
// apply them.
func (p *patient) untilRights(verdict Verdict) Report {
	p.t.Helper()
	for ctx := bounded(p.t); ; time.Sleep(50 * time.Millisecond) {
		r := Examine(ctx, p.Installation)
		if find(p.t, r, "kafka.rights")[0].Verdict == verdict {
			return r
		}
		if ctx.Err() != nil {
			p.t.Fatalf("kafka.rights is never %s: %+v", verdict, r.Findings)
		}
	}
}

// TestExamine_DatabaseRights: the doctor names a missing privilege.
func TestExamine_DatabaseRights(t *testing.T) {
	t.Parallel()
	p := newPatient(t, parts.Kafka(t)).setUp()
	p.exec(`create role doctors_patient login password 'test-only'`)
	p.t.Cleanup(func() { p.exec(`drop owned by doctors_patient; drop role doctors_patient`) })
	p.exec(`grant usage on schema public to doctors_patient;
		grant select on all tables in schema public to doctors_patient;
		grant select, update on all sequences in schema public to doctors_patient;
		grant insert on payments, parties, accounts to doctors_patient;
		grant update on topic_partitions, api_keys to doctors_patient`)
	config := p.sql.Config().ConnConfig
	p.url = strings.Replace(p.url, config.User+":"+config.Password+"@", "doctors_patient:test-only@", 1)
	wantFinding(t, Examine(bounded(t), p.Installation), "database.rights", VerdictNo, "UPDATE (status) on payments")
	p.exec(`grant update on payments to doctors_patient`)
	wantFinding(t, Examine(bounded(t), p.Installation), "database.rights", VerdictYes)
}

// TestExamine_Away: what cannot be looked at is unknown, and no check ends the program.
func TestExamine_Away(t *testing.T) {
	t.Parallel()
	p := newPatient(t, "127.0.0.1:1")
	p.url = "postgres://nobody:secret@127.0.0.1:1/none"
	r := Examine(bounded(t), p.Installation)
	wantFinding(t, r, "database.reachable", VerdictNo)
	wantFinding(t, r, "kafka.transactions", VerdictUnknown)
	wantFinding(t, r, "kafka.topic", VerdictUnknown)
	if r.ExactlyOnce != VerdictNo {
		t.Errorf("got %s, want no", r.ExactlyOnce)
	}
	var text bytes.Buffer
	if err := r.WriteText(&text); err != nil || strings.Contains(text.String(), "secret") {
		t.Errorf("got %q, error %v; want no password", text.String(), err)
	}
}

// TestReport_JSON: the document has all findings under stable names.
func TestReport_JSON(t *testing.T) {
	t.Parallel()
	r := report([]Finding{
		{"a", VerdictYes, "seen", "", true},
		{"b", VerdictUnknown, "not seen", "much", true},
		{"c", VerdictNo, "x", "y", false},
	})
	var out bytes.Buffer
	if err := r.WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || !slices.Equal(back.Findings, r.Findings) {
		t.Errorf("got %+v, error %v; want %+v", back, err, r)
	}
	if r.ExactlyOnce != VerdictUnknown {
		t.Errorf("got %s, want unknown: what is not required does not count", r.ExactlyOnce)
	}
}
