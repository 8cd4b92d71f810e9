package integration

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/test/parts"
)

var aclLine = regexp.MustCompile(`^kafka-acls\.sh --add --allow-principal User:paylatch_(\w+) --operation (\w+) ` +
	`(?:--(topic) (\S+)|--resource-pattern-type prefixed --(transactional-id) (\S+)|--(cluster))$`)

// printedACLs returns the rights that `paylatch roles` prints for a principal, such as sender, in
// their order.
func printedACLs(t *testing.T, principal, topic string) (rights []parts.ACL) {
	t.Helper()
	for line := range strings.Lines(run(t, nil, "roles", "--only", "kafka", "--topic", topic)) {
		m := aclLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			t.Fatalf("got a line that no test knows: %s", line)
		}
		if m[1] != principal {
			continue
		}
		operation, err := kmsg.ParseACLOperation(m[2])
		if err != nil {
			t.Fatal(err)
		}
		resource := strings.TrimSpace(m[3] + m[5] + m[7] + " " + m[4] + m[6])
		rights = append(rights, parts.ACL{Operation: operation, Resource: resource})
	}
	if len(rights) == 0 {
		t.Fatalf("got no right of %s, want some", principal)
	}
	return rights
}

// guarded is an installation on a broker that grants its clients only what a test grants.
type guarded struct {
	*installation
	broker *parts.GuardedBroker
}

// installGuarded sets up a guarded installation on a topic that the administrator of the broker has
// created.
func installGuarded(t *testing.T) guarded {
	t.Helper()
	g := guarded{broker: parts.GuardedKafka(t), installation: &installation{topic: parts.Topic()}}
	g.env = map[string]string{
		"PAYLATCH_DATABASE_URL": parts.EmptyPostgres(t), "PAYLATCH_KAFKA_BROKERS": g.broker.Addr,
		"PAYLATCH_TOPIC":  g.topic,
		"PAYLATCH_LISTEN": "127.0.0.1:0", "PAYLATCH_ADMIN_LISTEN": "127.0.0.1:0", "PAYLATCH_LOG_LEVEL": "debug",
		"PAYLATCH_PARTITIONS": "2",
	}
	g.broker.CreateTopic(t, g.topic, 2)
	run(t, g.env, "migrate", "up")
	parts.GrantRoles(t, g.env["PAYLATCH_DATABASE_URL"])
	return g
}

// wantRuns grants rights, and expects the command to succeed with them. A broker needs a moment to
// apply them. Without any one of them the command must fail and name it.
func (g guarded) wantRuns(t *testing.T, rights []parts.ACL, args ...string) {
	t.Helper()
	g.broker.Grant(t, rights...)
	for _, r := range rights {
		g.wantDenied(t, r, args...)
	}
	eventually(t, strings.Join(args, " "), func() error {
		_, err := command(t, g.env, args...).Output()
		return errors.Join(err, stderrOf(err))
	})
}

// wantDenied takes one right away, expects the command to fail and to name it, and grants it again.
func (g guarded) wantDenied(t *testing.T, r parts.ACL, args ...string) {
	t.Helper()
	g.broker.Revoke(t, r)
	want := r.Name() + " on " + r.Resource
	eventually(t, "without "+want, func() error {
		cmd := command(t, g.env, args...)
		if out, err := cmd.Output(); err == nil || !strings.Contains(stderrOf(err).Error(),
			"lacks a right: "+want) {
			return fmt.Errorf("%w: %s: %w %w", errNotYet, out, err, stderrOf(err))
		}
		return nil
	})
	g.broker.Grant(t, r)
}

// TestRights_Kafka_Setup creates a topic and records it with the rights that are printed for it.
// Without any one of them the command fails and names it.
func TestRights_Kafka_Setup(t *testing.T) {
	t.Parallel()
	g := installGuarded(t)
	absent := parts.Topic()
	g.wantRuns(t, printedACLs(t, "setup", absent), "partitions", "init", "--topic", absent)
}

// TestRights_Kafka_Operator runs an operator's commands with the rights that are printed for one.
// Without any one of them a command fails and names it. ClusterAction is for a transaction whose
// marker a broker has lost: see internal/kafka.
func TestRights_Kafka_Operator(t *testing.T) {
	t.Parallel()
	g := installGuarded(t)
	setup, rights := printedACLs(t, "setup", g.topic), printedACLs(t, "operator", g.topic)
	g.broker.Grant(t, setup...)
	eventually(t, "the topic is set up", func() error {
		_, err := command(t, g.env, "setup", "--tenant", "acme").Output()
		return errors.Join(err, stderrOf(err))
	})
	for _, r := range setup {
		g.broker.Revoke(t, r)
	}
	g.key = g.tenant(t, "bank")
	sending := printedACLs(t, "sender", g.topic)
	g.broker.Grant(t, sending...)
	service := g.launch(t, "serve")
	create(t, newClient(t, g.key, service.api)) // For verify to read.
	g.drained(t)
	service.kill()
	for _, r := range sending {
		g.broker.Revoke(t, r)
	}
	g.broker.Grant(t, rights...)
	for _, r := range rights {
		args, ok := map[string][]string{
			"Read": {"verify"}, "Alter": {"partitions", "grow", "3"}, "DescribeConfigs": {"partitions", "grow", "3"},
			"Write": {"partitions", "resume", "0", "--resend", "--dry-run"},
		}[r.Name()]
		if !ok && r.Operation == kadm.OpClusterAction {
			continue
		}
		if !ok {
			t.Fatalf("got right %v, want a command that needs it", r)
		}
		if r.Name() == "Write" {
			run(t, g.env, "partitions", "halt", "0", "--reason", "test")
		}
		g.wantDenied(t, r, args...)
	}
	for _, args := range [][]string{
		{"partitions", "resume", "0", "--resend"},
		{"partitions", "grow", "3"},
		{"partitions", "mode", "locked"},
		{"partitions", "mode", "fenced"},
		{"verify"},
	} {
		run(t, g.env, args...)
	}
}

// tailAfterCrash sets the state that a crash between Kafka's commit and PostgreSQL's leaves behind.
// The last record of partition 0 is in the log, and its payment is not marked.
const tailAfterCrash = `
	with last as (select id, partition, kafka_offset from payments where status = 'sent'
			order by kafka_offset desc limit 1),
		unmarked as (update payments p set status = 'created', sent_at = null, kafka_offset = null
			from last where p.id = last.id)
	update topic_partitions t set next_offset = last.kafka_offset from last where t.partition = last.partition`

// awaitRights waits until the broker has applied the rights of a sender: all of them, or not all.
func (g guarded) awaitRights(t *testing.T, all bool) {
	t.Helper()
	cluster, err := kafka.NewCluster(brokers.At(g.broker.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	var id string
	g.onDatabase(t, func(conn *pgx.Conn) error {
		return conn.QueryRow(t.Context(), `select transactional_id from topic_partitions where partition = 0`).Scan(&id)
	})
	eventually(t, fmt.Sprintf("the broker has applied the rights: all %t", all), func() error {
		warnings, err := cluster.TryRights(t.Context(), g.topic, id)
		if all != (err == nil && len(warnings) == 0) {
			return fmt.Errorf("%w: %w, %q", errNotYet, err, warnings)
		}
		return nil
	})
}

// TestRights_Kafka_Sender revokes each right of a sender in turn. The sender names the right, also
// if only a recovery needs it. The API takes payments concurrently, and the sender continues by
// itself once it has the right. With all rights it recovers what a crash left behind.
func TestRights_Kafka_Sender(t *testing.T) {
	t.Parallel()
	g := installGuarded(t)
	topic := "topic " + g.topic
	g.broker.Grant(t, parts.ACL{Operation: kadm.OpDescribeConfigs, Resource: topic},
		parts.ACL{Operation: kadm.OpDescribe, Resource: topic})
	eventually(t, "the topic is set up", func() error {
		_, err := command(t, g.env, "partitions", "init").Output()
		return errors.Join(err, stderrOf(err))
	})
	g.broker.Revoke(t, parts.ACL{Operation: kadm.OpDescribeConfigs, Resource: topic})
	g.broker.Revoke(t, parts.ACL{Operation: kadm.OpDescribe, Resource: topic})
	g.key = g.tenant(t, "acme")

	rights := printedACLs(t, "sender", g.topic)
	g.broker.Grant(t, rights...)
	g.awaitRights(t, true)
	for n, r := range rights {
		g.broker.Revoke(t, r)
		g.awaitRights(t, false)
		service := g.launch(t, "serve")
		create(t, newClient(t, g.key, service.api))
		want := r.Name() + " on " + r.Resource
		optional := r.Operation == kadm.OpClusterAction
		if optional {
			want = "ClusterAction (or Alter) on the cluster"
			g.drained(t) // The right is optional for sending.
		}
		eventually(t, "the log says "+want, func() error {
			if !strings.Contains(service.stderr.String(), want) {
				return errNotYet
			}
			return nil
		})
		if waiting := g.count(t, `select count(*) from payments where status = 'created'`); !optional && waiting == 0 {
			t.Errorf("without %v: got no payment that waits, want some", r)
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

	g.tamper(t, tailAfterCrash)
	sender := g.launch(t, "sender")
	g.drained(t)
	if n := recovered(t, sender); n != 1 {
		t.Errorf("got %d payments found in the tail, want 1", n)
	}
	g.wantClean(t, int64(len(rights)))
}

// as returns the environment for commands that log in as a new role, which is a member of the given
// groups.
func (i *installation) as(t *testing.T, groups ...string) map[string]string {
	t.Helper()
	u, err := url.Parse(i.env["PAYLATCH_DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	login := fmt.Sprintf("login_%s", strings.ReplaceAll(uuid.NewString(), "-", ""))
	i.execute(t, fmt.Sprintf("create role %s login password 'secret' in role %s", login, strings.Join(groups, ", ")))
	i.executeAtEnd(t, "drop role "+login)
	u.User = url.UserPassword(login, "secret")
	return map[string]string{"PAYLATCH_DATABASE_URL": u.String()}
}

// executeAtEnd executes SQL when the test has ended. Statements are executed in reverse order.
func (i *installation) executeAtEnd(t *testing.T, sql string) {
	t.Helper()
	database := i.env["PAYLATCH_DATABASE_URL"]
	t.Cleanup(func() {
		conn, err := parts.Connect(context.WithoutCancel(t.Context()), database)
		if err != nil {
			t.Error(err)
			return
		}
		_, err = conn.Exec(context.WithoutCancel(t.Context()), sql)
		if err := errors.Join(err, conn.Close(context.WithoutCancel(t.Context()))); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	})
}

// groups executes what `paylatch roles` prints, with role names of the test, since roles belong to
// the whole server.
func (i *installation) groups(t *testing.T) (api, sender, operator string) {
	t.Helper()
	prefix := "test_" + strings.ReplaceAll(uuid.NewString(), "-", "")[:8]
	i.execute(t, run(t, nil, "roles", "--prefix", prefix))
	for _, group := range []string{"common", "api", "sender", "operator", "retention"} {
		i.executeAtEnd(t, fmt.Sprintf("drop owned by %[1]s; drop role %[1]s", prefix+"_"+group))
	}
	return prefix + "_api", prefix + "_sender", prefix + "_operator"
}

// TestRights_Postgres runs every command except those that create the schema, and a recovery. The
// roles have only what `paylatch roles` prints.
func TestRights_Postgres(t *testing.T) {
	t.Parallel()
	i := &installation{topic: parts.Topic(), env: map[string]string{
		"PAYLATCH_DATABASE_URL": parts.EmptyPostgres(t), "PAYLATCH_KAFKA_BROKERS": parts.Kafka(t),
		"PAYLATCH_PARTITIONS": "2",
		"PAYLATCH_LISTEN":     "127.0.0.1:0", "PAYLATCH_ADMIN_LISTEN": "127.0.0.1:0", "PAYLATCH_LOG_LEVEL": "debug",
	}}
	run(t, i.env, "migrate", "up")
	api, sender, operator := i.groups(t)
	owner, asOperator := i.env, maps.Clone(i.env)
	maps.Copy(asOperator, i.as(t, operator))
	i.env = asOperator
	run(t, i.env, "partitions", "init", "--topic", i.topic)
	i.key = i.tenant(t, "acme")
	i.env = owner

	asAPI, asSender := i.as(t, api), i.as(t, sender)
	service := i.launch(t, "api", asAPI)
	c := newClient(t, i.key, service.api)
	first := create(t, c)
	if _, err := c.Get(t.Context(), first.ID); err != nil {
		t.Error(err)
	}
	get(t, service.api+"/readyz")
	if !strings.Contains(get(t, service.admin+"/metrics"), "\npaylatch_database_up 1\n") {
		t.Error("want paylatch_database_up 1 in the metrics")
	}

	// A command names what it is not allowed to do, and the role.
	asAPIEnv := maps.Clone(owner)
	maps.Copy(asAPIEnv, asAPI)
	_, err := command(t, asAPIEnv, "tenants", "add-key", "acme").Output()
	if err == nil || !strings.Contains(stderrOf(err).Error(), "INSERT on api_keys, needed to create tenants, keys") ||
		!strings.Contains(stderrOf(err).Error(), "the database role login_") {
		t.Errorf("got %v, %v, want an error that names INSERT on api_keys and the role", err, stderrOf(err))
	}

	// The sender names a missing privilege at its start, also if only a recovery needs it. It
	// continues by itself when it is granted.
	i.execute(t, "revoke insert on parties from "+sender)
	p := i.launch(t, "sender", asSender)
	eventually(t, "the sender names the missing privilege", func() error {
		if !strings.Contains(p.stderr.String(), "lacks a privilege: INSERT on parties, needed to put back") {
			return errNotYet
		}
		return nil
	})
	if i.count(t, `select count(*) from payments where status = 'created'`) != 1 {
		t.Error("got the payment sent, want it to wait for the privilege")
	}
	i.execute(t, "grant insert on parties to "+sender)
	i.drained(t)
	p.kill()
	if strings.Contains(service.stderr.String(), "lacks a privilege") {
		t.Error("got a missing privilege in the log of the API, want none")
	}

	// The database loses a sent payment with its parties and accounts. Its sequences are reset.
	i.tamper(t, `delete from payments; delete from parties; delete from accounts;
		update topic_partitions set next_offset = 0;
		select setval('payments_seq', 1, false)`)
	service.kill()
	p = i.launch(t, "sender", asSender)
	eventually(t, "the payment is put back", func() error {
		if recovered(t, p) != 1 {
			return errNotYet
		}
		return nil
	})
	// Logical replication does not copy sequences.
	i.execute(t, `select setval('parties_id_seq', 1, false), setval('accounts_id_seq', 1, false),
			setval('tenants_id_seq', 1, false)`)
	service = i.launch(t, "api", asAPI)
	create(t, newClient(t, i.key, service.api))
	i.drained(t)

	i.env = asOperator
	run(t, i.env, "tenants", "add-key", "acme")
	run(t, i.env, "tenants", "revoke-key", "acme", "2")
	run(t, i.env, "tenants", "list")
	run(t, i.env, "partitions", "halt", "1", "--reason", "test")
	run(t, i.env, "partitions", "resume", "1", "--resend", "--dry-run")
	run(t, i.env, "partitions", "resume", "1")
	run(t, i.env, "partitions", "grow", "3")
	run(t, i.env, "partitions", "mode", "locked")
	run(t, i.env, "partitions", "mode", "fenced")
	run(t, i.env, "partitions", "list")
	run(t, i.env, "storage")
	i.wantClean(t, 2)
	i.env = owner
}
