package integration

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/test/parts"
)

const rightsDocument = "../../docs/rights.md"

// block returns the code block of docs/rights.md that is in the given language.
func block(t *testing.T, language string) string {
	t.Helper()
	document, err := os.ReadFile(rightsDocument)
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(document), "```"+language+"\n")
	code, _, closed := strings.Cut(after, "```")
	if !ok || !closed {
		t.Fatalf("%s has no block of %s", rightsDocument, language)
	}
	return code
}

var aclLine = regexp.MustCompile(`^kafka-acls\.sh --add --allow-principal User:paylatch --operation (\w+) ` +
	`(?:--(topic) (payments)|--resource-pattern-type prefixed --(transactional-id) (payments-)|--(cluster))$`)

// senderACLs are the rights that docs/rights.md gives a sender, for a topic of the test's own.
func senderACLs(t *testing.T, topic string) (rights []parts.ACL) {
	t.Helper()
	for line := range strings.Lines(block(t, "sh")) {
		m := aclLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			t.Fatalf("%s: a line that no test reads: %s", rightsDocument, line)
		}
		operation, err := kmsg.ParseACLOperation(m[1])
		if err != nil {
			t.Fatal(err)
		}
		resource := map[string]string{
			"topic": "topic " + topic, "transactional-id": "transactional-id " + topic + "-", "cluster": "cluster",
		}[m[2]+m[4]+m[6]]
		rights = append(rights, parts.ACL{Operation: operation, Resource: resource})
	}
	return rights
}

// guarded is an installation on a broker that grants its clients nothing but what a test grants.
type guarded struct {
	*installation
	broker *parts.GuardedBroker
}

// installGuarded sets one up, on a topic that the broker's administrator has created.
func installGuarded(t *testing.T) guarded {
	t.Helper()
	g := guarded{broker: parts.GuardedKafka(t), installation: &installation{topic: parts.Topic()}}
	g.env = map[string]string{
		"PAYLATCH_DATABASE_URL": parts.EmptyPostgres(t), "PAYLATCH_KAFKA_BROKERS": g.broker.Addr, "PAYLATCH_TOPIC": g.topic,
		"PAYLATCH_LISTEN": "127.0.0.1:0", "PAYLATCH_ADMIN_LISTEN": "127.0.0.1:0", "PAYLATCH_LOG_LEVEL": "debug", "PAYLATCH_PARTITIONS": "2",
	}
	g.broker.CreateTopic(t, g.topic, 2)
	run(t, g.env, "migrate", "up")
	return g
}

// wantRuns grants rights and wants the command to succeed with them; a broker takes a moment to know of them. Without any
// one of them it must fail, and say which it lacks.
func (g guarded) wantRuns(t *testing.T, rights []parts.ACL, args ...string) {
	t.Helper()
	g.broker.Grant(t, rights...)
	for _, r := range rights {
		g.broker.Revoke(t, r)
		want := r.Name() + " on " + r.Resource
		eventually(t, "without "+want, func() error {
			cmd := command(t, g.env, args...)
			if out, err := cmd.Output(); err == nil || !strings.Contains(stderrOf(err).Error(), "lacks a right: "+want) {
				return fmt.Errorf("%w: %s: %w %w", errNotYet, out, err, stderrOf(err))
			}
			return nil
		})
		g.broker.Grant(t, r)
	}
	eventually(t, strings.Join(args, " "), func() error {
		_, err := command(t, g.env, args...).Output()
		return errors.Join(err, stderrOf(err))
	})
}

// TestRights_Kafka_Operator: the operator's commands run with the rights that docs/rights.md names, and fail by name
// without any of them. None needs to create what exists.
func TestRights_Kafka_Operator(t *testing.T) {
	t.Parallel()
	g := installGuarded(t)
	topic := "topic " + g.topic
	g.wantRuns(t, []parts.ACL{{Operation: kadm.OpDescribeConfigs, Resource: topic}, {Operation: kadm.OpDescribe, Resource: topic}}, "partitions", "init")
	run(t, g.env, "setup", "--tenant", "acme")
	g.wantRuns(t, []parts.ACL{{Operation: kadm.OpAlter, Resource: topic}}, "partitions", "grow", "3")
}

// tailAfterCrash puts the database into the state in which a crash between Kafka's commit and PostgreSQL's leaves it: the
// last record of partition 0 is in the log, and its payment is not marked.
const tailAfterCrash = `with last as (update payments set status = 'created', sent_at = null, kafka_offset = null
		where partition = 0 and kafka_offset = (select max(kafka_offset) from payments where partition = 0) returning id),
	tail as (select p.kafka_offset from payments p join last using (id))
	update topic_partitions set next_offset = (select kafka_offset from tail) where partition = 0`

// awaitRights waits until the broker knows whether a sender has all its rights.
func (g guarded) awaitRights(t *testing.T, all bool) {
	t.Helper()
	cluster, err := kafka.NewCluster([]string{g.broker.Addr})
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	var id string
	g.onDatabase(t, func(conn *pgx.Conn) error {
		return conn.QueryRow(t.Context(), `select transactional_id from topic_partitions where partition = 0`).Scan(&id)
	})
	eventually(t, fmt.Sprintf("the broker knows of the rights: all %t", all), func() error {
		warnings, err := cluster.TryRights(t.Context(), g.topic, id)
		if all != (err == nil && len(warnings) == 0) {
			return fmt.Errorf("%w: %w, %q", errNotYet, err, warnings)
		}
		return nil
	})
}

// TestRights_Kafka_Sender takes each right of a sender away in turn: it says which it lacks, also when only a recovery
// needs it, takes payments meanwhile, and goes on by itself once it has the right. With all of them it recovers what a
// crash left.
func TestRights_Kafka_Sender(t *testing.T) {
	t.Parallel()
	g := installGuarded(t)
	topic := "topic " + g.topic
	g.broker.Grant(t, parts.ACL{Operation: kadm.OpDescribeConfigs, Resource: topic}, parts.ACL{Operation: kadm.OpDescribe, Resource: topic})
	eventually(t, "the topic is set up", func() error {
		_, err := command(t, g.env, "partitions", "init").Output()
		return errors.Join(err, stderrOf(err))
	})
	g.broker.Revoke(t, parts.ACL{Operation: kadm.OpDescribeConfigs, Resource: topic})
	g.broker.Revoke(t, parts.ACL{Operation: kadm.OpDescribe, Resource: topic})
	g.key = g.tenant(t, "acme")

	rights := senderACLs(t, g.topic)
	g.broker.Grant(t, rights...)
	g.awaitRights(t, true)
	for n, r := range rights {
		g.broker.Revoke(t, r)
		g.awaitRights(t, false)
		service := g.launch(t, "serve")
		create(t, client(t, g.key, service.api))
		want := r.Name() + " on " + r.Resource
		optional := r.Operation == kadm.OpClusterAction
		if optional {
			want = "ClusterAction (or Alter) on the cluster"
			g.drained(t) // It sends all the same.
		}
		eventually(t, "the log says "+want, func() error {
			if !strings.Contains(service.stderr.String(), want) {
				return errNotYet
			}
			return nil
		})
		if waiting := g.count(t, `select count(*) from payments where status = 'created'`); !optional && waiting == 0 {
			t.Errorf("without %v payments are sent", r)
		}
		g.broker.Grant(t, r)
		g.awaitRights(t, true)
		g.drained(t)
		if n < len(rights)-1 {
			end(t, service)
			continue
		}
		service.kill()
	}

	g.execute(t, tailAfterCrash)
	sender := g.launch(t, "sender")
	g.drained(t)
	if n := recovered(t, sender); n != 1 {
		t.Errorf("%d payments of the tail were found, want 1", n)
	}
	g.wantClean(t, int64(len(rights)))
}
