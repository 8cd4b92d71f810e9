package parts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"
)

// GuardedBroker is a broker that checks the rights of its clients. A client of Addr is the
// principal User:ANONYMOUS, which has no rights but those granted to it.
type GuardedBroker struct {
	Addr string
	// admin has all rights. With kfake it may only grant rights.
	admin *kadm.Client
	fake  bool
}

// ACL is a right of the clients: an operation on a resource, as kafka-acls.sh names them. A
// resource is "cluster", "topic NAME", or "transactional-id PREFIX".
type ACL struct {
	Operation kadm.ACLOperation
	Resource  string
}

// Name is the operation as kafka-acls.sh spells it, like DescribeConfigs.
func (r ACL) Name() string {
	var name strings.Builder
	for word := range strings.SplitSeq(r.Operation.String(), "_") {
		name.WriteString(word[:1] + strings.ToLower(word[1:]))
	}
	return name.String()
}

// GuardedKafka starts a broker whose clients have no rights.
func GuardedKafka(t testing.TB) *GuardedBroker {
	t.Helper()
	start := startGuardedFake
	if InDocker(t) {
		start = startGuardedContainer
	}
	b, admins, end, err := start()
	if end != nil {
		t.Cleanup(func() {
			if err := end(); err != nil {
				t.Error(err)
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(admins...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &GuardedBroker{Addr: b, admin: kadm.NewClient(client), fake: !InDocker(t)}
}

// CreateTopic creates a topic as its administrator does.
func (b *GuardedBroker) CreateTopic(t testing.TB, name string, partitions int32) {
	t.Helper()
	b.administer(t, ACL{kadm.OpCreate, "topic " + name}, func() error {
		_, err := b.admin.CreateTopic(t.Context(), partitions, 1, nil, name)
		return err
	})
}

// DeleteTopic deletes a topic as its administrator does.
func (b *GuardedBroker) DeleteTopic(t testing.TB, name string) {
	t.Helper()
	b.administer(t, ACL{kadm.OpDelete, "topic " + name}, func() error {
		_, err := b.admin.DeleteTopic(t.Context(), name)
		return err
	})
}

// administer does what kfake's administrator may do only while it grants itself the right.
func (b *GuardedBroker) administer(t testing.TB, right ACL, work func() error) {
	t.Helper()
	if b.fake {
		b.Grant(t, right)
		defer b.Revoke(t, right)
	}
	if err := work(); err != nil {
		t.Fatal(err)
	}
}

// Grant grants a right to the clients. The broker may take a moment to notice.
func (b *GuardedBroker) Grant(t testing.TB, rights ...ACL) {
	t.Helper()
	for _, r := range rights {
		results, err := b.admin.CreateACLs(t.Context(), r.builder())
		for _, one := range results {
			err = errors.Join(err, one.Err)
		}
		if err != nil || len(results) != 1 {
			t.Fatalf("grant %+v: %d results, %v", r, len(results), err)
		}
	}
}

// Revoke revokes a right. The broker may take a moment to notice.
func (b *GuardedBroker) Revoke(t testing.TB, r ACL) {
	t.Helper()
	results, err := b.admin.DeleteACLs(t.Context(), r.builder())
	if err != nil || len(results) != 1 || results[0].Err != nil || len(results[0].Deleted) != 1 {
		t.Fatalf("revoke %+v: %+v, %v", r, results, err)
	}
}

func (r ACL) builder() *kadm.ACLBuilder {
	b := kadm.NewACLs().Allow("User:ANONYMOUS").AllowHosts("*").Operations(r.Operation).ResourcePatternType(
		kadm.ACLPatternLiteral)
	var name string
	switch {
	case r.Resource == "cluster":
		return b.Clusters()
	case scan(r.Resource, "topic %s", &name):
		return b.Topics(name)
	case scan(r.Resource, "transactional-id %s", &name):
		return b.TransactionalIDs(name).ResourcePatternType(kadm.ACLPatternPrefixed)
	}
	panic("no resource: " + r.Resource)
}

func scan(s, format string, into *string) bool {
	n, err := fmt.Sscanf(s, format, into)
	return n == 1 && err == nil
}

// startGuardedFake starts kfake. Its clients may also alter the cluster, which is how its
// administrator gets its rights.
func startGuardedFake() (addr string, admin []kgo.Opt, end func() error, err error) {
	alter := kfake.ACL{
		Resource: kmsg.ACLResourceTypeCluster, Name: "kafka-cluster", Pattern: kmsg.ACLResourcePatternTypeLiteral,
		Operation: kmsg.ACLOperationAlter, Allow: true,
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableACLs(),
		kfake.User("PLAIN", "ANONYMOUS", "", alter))
	if err != nil {
		return "", nil, nil, err
	}
	addr = cluster.ListenAddrs()[0]
	return addr, []kgo.Opt{kgo.SeedBrokers(addr)}, func() error { cluster.Close(); return nil }, nil
}

// startGuardedContainer starts Apache Kafka with StandardAuthorizer. Its administrator, and the
// broker itself, log in by SASL over listeners of their own.
func startGuardedContainer() (addr string, admin []kgo.Opt, end func() error, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	var ports [2]int
	for i := range ports {
		ports[i], err = freePort()
		if err != nil {
			return "", nil, nil, err
		}
	}
	const jaas = `org.apache.kafka.common.security.plain.PlainLoginModule required ` +
		`username="admin" password="admin" user_admin="admin";`
	c, err := testcontainers.Run(ctx, "apache/kafka:4.3.1",
		testcontainers.WithExposedPorts("9092/tcp", "9094/tcp"),
		testcontainers.WithHostConfigModifier(func(hc *container.HostConfig) {
			hc.PortBindings = network.PortMap{}
			for i, inside := range []string{"9092/tcp", "9094/tcp"} {
				hc.PortBindings[network.MustParsePort(inside)] = []network.PortBinding{
					{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: strconv.Itoa(ports[i])},
				}
			}
		}),
		testcontainers.WithEnv(map[string]string{
			"KAFKA_NODE_ID":       "1",
			"KAFKA_PROCESS_ROLES": "broker,controller",
			"KAFKA_LISTENERS": "PLAINTEXT://:9092,ADMIN://:9094,BROKER://localhost:29092," +
				"CONTROLLER://localhost:9093",
			"KAFKA_ADVERTISED_LISTENERS": fmt.Sprintf(
				"PLAINTEXT://127.0.0.1:%d,ADMIN://127.0.0.1:%d,BROKER://localhost:29092", ports[0], ports[1]),
			"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,ADMIN:SASL_PLAINTEXT," +
				"BROKER:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
			"KAFKA_INTER_BROKER_LISTENER_NAME":                       "BROKER",
			"KAFKA_CONTROLLER_LISTENER_NAMES":                        "CONTROLLER",
			"KAFKA_CONTROLLER_QUORUM_VOTERS":                         "1@localhost:9093",
			"KAFKA_SASL_ENABLED_MECHANISMS":                          "PLAIN",
			"KAFKA_SASL_MECHANISM_INTER_BROKER_PROTOCOL":             "PLAIN",
			"KAFKA_SASL_MECHANISM_CONTROLLER_PROTOCOL":               "PLAIN",
			"KAFKA_LISTENER_NAME_ADMIN_PLAIN_SASL_JAAS_CONFIG":       jaas,
			"KAFKA_LISTENER_NAME_BROKER_PLAIN_SASL_JAAS_CONFIG":      jaas,
			"KAFKA_LISTENER_NAME_CONTROLLER_PLAIN_SASL_JAAS_CONFIG":  jaas,
			"KAFKA_LISTENER_NAME_CONTROLLER_SASL_ENABLED_MECHANISMS": "PLAIN",
			"KAFKA_AUTHORIZER_CLASS_NAME": "org.apache.kafka.metadata." +
				"authorizer.StandardAuthorizer",
			"KAFKA_SUPER_USERS":                              "User:admin",
			"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR":         "1",
			"KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
			"KAFKA_TRANSACTION_STATE_LOG_MIN_ISR":            "1",
			"KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS":     "1",
			"KAFKA_AUTO_CREATE_TOPICS_ENABLE":                "false",
		}),
		testcontainers.WithWaitStrategyAndDeadline(startTimeout,
			wait.ForAll(wait.ForLog("Kafka Server started"), wait.ForListeningPort("9092/tcp"))))
	end = func() error { return testcontainers.TerminateContainer(c) }
	if err != nil {
		return "", nil, end, fmt.Errorf("apache/kafka:4.3.1: %w", err)
	}
	at := func(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
	login := kgo.SASL(plain.Auth{User: "admin", Pass: "admin"}.AsMechanism())
	return at(ports[0]), []kgo.Opt{kgo.SeedBrokers(at(ports[1])), login}, end, nil
}
