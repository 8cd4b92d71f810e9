package parts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/test/pki"
)

// secureListeners are the listeners of the container: the ways, and their ports inside.
var secureListeners = []struct {
	name, protocol string
	port           int
	ways           []string
}{
	{"TLS", "SSL", 9092, []string{OnlyTLS}},
	{"MTLS", "SSL", 9192, []string{MutualTLS}},
	{"PLAIN", "SASL_SSL", 9292, []string{string(brokers.Plain)}},
	{"SCRAM", "SASL_SSL", 9392, []string{string(brokers.Scram256), string(brokers.Scram512)}},
	{"OAUTH", "SASL_SSL", 9492, []string{string(brokers.OAuthBearer)}},
	{"ADMIN", "SASL_PLAINTEXT", 9592, nil},
}

const secureDir = "/etc/kafka/secrets/"

// allowedURLs is the JVM's property that permits the set of keys.
const allowedURLs = "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls="

// startContainer starts Apache Kafka with StandardAuthorizer. Clients of all ways but OnlyTLS are
// User:paylatch, and have the rights that Grant gives.
func (b *SecureBroker) startContainer(t testing.TB) {
	t.Helper()
	var err error
	b.Issuer, err = pki.NewIssuer()
	if err != nil {
		t.Fatal(err)
	}
	b.Issuer.Secret = func(client string) string {
		return map[string]string{SecureUser: SecureSecret, SecureGuest: SecureSecret}[client]
	}
	endpoint := httptest.NewServer(b.Issuer)
	t.Cleanup(endpoint.Close)
	b.tokenURL = endpoint.URL
	admin, err := b.run(t)
	if err != nil {
		t.Fatal(err)
	}
	login := plain.Auth{User: secureAdmin, Pass: secureAdmin}.AsMechanism()
	client, err := kgo.NewClient(kgo.SeedBrokers(admin), kgo.SASL(login))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	b.admin = kadm.NewClient(client)
	b.setPassword(t)
	b.Grant(t, "User:"+SecureUser)
	b.Grant(t, "User:ANONYMOUS")
}

// run starts the container and returns the address of its administrator.
func (b *SecureBroker) run(t testing.TB) (admin string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	var listeners, advertised, protocols, exposed []string
	ports := network.PortMap{}
	for _, l := range secureListeners {
		port, err := freePort()
		if err != nil {
			return "", err
		}
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		for _, way := range l.ways {
			b.addresses[way] = address
		}
		admin = address // The last one.
		inside := strconv.Itoa(l.port) + "/tcp"
		listeners = append(listeners, fmt.Sprintf("%s://:%d", l.name, l.port))
		advertised = append(advertised, l.name+"://"+address)
		protocols = append(protocols, l.name+":"+l.protocol)
		exposed = append(exposed, inside)
		ports[network.MustParsePort(inside)] = []network.PortBinding{
			{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: strconv.Itoa(port)},
		}
	}
	env := secureEnv()
	env["KAFKA_LISTENERS"] = strings.Join(listeners, ",") + ",BROKER://localhost:29092,CONTROLLER://localhost:9093"
	env["KAFKA_ADVERTISED_LISTENERS"] = strings.Join(advertised, ",") + ",BROKER://localhost:29092"
	env["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"] = strings.Join(protocols, ",") +
		",BROKER:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT"
	files, err := b.containerFiles()
	if err != nil {
		return "", err
	}
	b.container, err = testcontainers.Run(ctx, "apache/kafka:4.3.1",
		testcontainers.WithExposedPorts(exposed...), testcontainers.WithEnv(env), testcontainers.WithFiles(files...),
		testcontainers.WithHostConfigModifier(func(hc *container.HostConfig) { hc.PortBindings = ports }),
		testcontainers.WithWaitStrategyAndDeadline(startTimeout,
			wait.ForAll(wait.ForLog("Kafka Server started"), wait.ForListeningPort("9092/tcp"))))
	t.Cleanup(func() {
		if err := testcontainers.TerminateContainer(b.container); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		return "", fmt.Errorf("apache/kafka:4.3.1: %w", err)
	}
	return admin, nil
}

func (b *SecureBroker) containerFiles() (files []testcontainers.ContainerFile, err error) {
	pair, err := b.CA.Issue("broker", time.Now().Add(time.Hour), "127.0.0.1")
	if err != nil {
		return nil, err
	}
	for name, content := range map[string][]byte{
		"broker.pem": pair.Bytes(), "ca.pem": b.CA.PEM, "jwks.json": b.Issuer.Keys(),
	} {
		files = append(files, testcontainers.ContainerFile{
			Reader: bytes.NewReader(content), ContainerFilePath: secureDir + name, FileMode: 0o644,
		})
	}
	return files, nil
}

// secureEnv returns the settings that do not depend on addresses.
func secureEnv() map[string]string {
	const module = "org.apache.kafka.common.security."
	adminJAAS := module + fmt.Sprintf(`plain.PlainLoginModule required username=%q password=%q user_%s=%q;`,
		secureAdmin, secureAdmin, secureAdmin, secureAdmin)
	env := map[string]string{
		"KAFKA_NODE_ID":                              "1",
		"KAFKA_PROCESS_ROLES":                        "broker,controller",
		"KAFKA_INTER_BROKER_LISTENER_NAME":           "BROKER",
		"KAFKA_CONTROLLER_LISTENER_NAMES":            "CONTROLLER",
		"KAFKA_CONTROLLER_QUORUM_VOTERS":             "1@localhost:9093",
		"KAFKA_SASL_MECHANISM_INTER_BROKER_PROTOCOL": "PLAIN",
		"KAFKA_SASL_MECHANISM_CONTROLLER_PROTOCOL":   "PLAIN",
		"KAFKA_SSL_KEYSTORE_TYPE":                    "PEM",
		"KAFKA_SSL_KEYSTORE_LOCATION":                secureDir + "broker.pem",
		"KAFKA_SSL_TRUSTSTORE_TYPE":                  "PEM",
		"KAFKA_SSL_TRUSTSTORE_LOCATION":              secureDir + "ca.pem",
		"KAFKA_SSL_CLIENT_AUTH":                      "none",
		"KAFKA_LISTENER_NAME_MTLS_SSL_CLIENT_AUTH":   "required",
		// The principal of a certificate is its common name.
		"KAFKA_SSL_PRINCIPAL_MAPPING_RULES": `RULE:^CN=([^,]*).*$/$1/`,

		"KAFKA_LISTENER_NAME_PLAIN_SASL_ENABLED_MECHANISMS": "PLAIN",
		"KAFKA_LISTENER_NAME_PLAIN_PLAIN_SASL_JAAS_CONFIG": module + fmt.Sprintf(
			`plain.PlainLoginModule required user_%s=%q;`, SecureUser, SecureSecret),
		"KAFKA_LISTENER_NAME_SCRAM_SASL_ENABLED_MECHANISMS":            "SCRAM-SHA-256,SCRAM-SHA-512",
		"KAFKA_LISTENER_NAME_SCRAM_SCRAM___SHA___256_SASL_JAAS_CONFIG": module + "scram.ScramLoginModule required;",
		"KAFKA_LISTENER_NAME_SCRAM_SCRAM___SHA___512_SASL_JAAS_CONFIG": module + "scram.ScramLoginModule required;",

		"KAFKA_LISTENER_NAME_OAUTH_SASL_ENABLED_MECHANISMS": "OAUTHBEARER",
		"KAFKA_LISTENER_NAME_OAUTH_OAUTHBEARER_SASL_JAAS_CONFIG": module +
			"oauthbearer.OAuthBearerLoginModule required;",
		"KAFKA_LISTENER_NAME_OAUTH_OAUTHBEARER_SASL_SERVER_CALLBACK_HANDLER_CLASS": module +
			"oauthbearer.OAuthBearerValidatorCallbackHandler",
		"KAFKA_LISTENER_NAME_OAUTH_OAUTHBEARER_CONNECTIONS_MAX_REAUTH_MS": "30000",
		"KAFKA_SASL_OAUTHBEARER_JWKS_ENDPOINT_URL":                        "file://" + secureDir + "jwks.json",
		"KAFKA_SASL_OAUTHBEARER_EXPECTED_AUDIENCE":                        "kafka",
		"KAFKA_SASL_OAUTHBEARER_EXPECTED_ISSUER":                          "https://issuer.test",

		"KAFKA_OPTS":                                     allowedURLs + "file://" + secureDir + "jwks.json",
		"KAFKA_AUTHORIZER_CLASS_NAME":                    "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"KAFKA_SUPER_USERS":                              "User:" + secureAdmin,
		"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR":         "1",
		"KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
		"KAFKA_TRANSACTION_STATE_LOG_MIN_ISR":            "1",
		"KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS":     "1",
		"KAFKA_AUTO_CREATE_TOPICS_ENABLE":                "false",
	}
	for _, listener := range []string{"ADMIN", "BROKER", "CONTROLLER"} {
		env["KAFKA_LISTENER_NAME_"+listener+"_SASL_ENABLED_MECHANISMS"] = "PLAIN"
		env["KAFKA_LISTENER_NAME_"+listener+"_PLAIN_SASL_JAAS_CONFIG"] = adminJAAS
	}
	return env
}

// reconfigure gives the running broker a new certificate of the present authority. It has other
// file names, since the broker does not look at content.
func (b *SecureBroker) reconfigure(t testing.TB) {
	t.Helper()
	pair, err := b.CA.Issue("broker", time.Now().Add(time.Hour), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	var changes []kadm.AlterConfig
	for setting, file := range map[string]struct {
		name    string
		content []byte
	}{"keystore": {"next-broker.pem", pair.Bytes()}, "truststore": {"next-ca.pem", b.CA.PEM}} {
		err := b.container.CopyToContainer(t.Context(), file.content, secureDir+file.name, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		path := secureDir + file.name
		changes = append(changes, kadm.AlterConfig{
			Op: kadm.SetConfig, Name: "listener.name.mtls.ssl." + setting + ".location", Value: &path,
		})
	}
	results, err := b.admin.AlterBrokerConfigs(t.Context(), changes, 1)
	for _, one := range results {
		err = errors.Join(err, one.Err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// ChangePassword changes the password of SCRAM. Connections that are open stay.
func (b *SecureBroker) ChangePassword(t testing.TB, password string) {
	t.Helper()
	b.password = password
	b.setPassword(t)
}

// setPassword creates the user of SCRAM, or changes its password.
func (b *SecureBroker) setPassword(t testing.TB) {
	t.Helper()
	for _, mechanism := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} {
		user := kadm.UpsertSCRAM{User: SecureUser, Mechanism: mechanism, Iterations: 4096, Password: b.password}
		altered, err := b.admin.AlterUserSCRAMs(t.Context(), nil, []kadm.UpsertSCRAM{user})
		if err == nil {
			err = altered.Error()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// secureTopics is the prefix of the topics that clients have rights on.
const secureTopics = "payments-"

// Grant gives a principal the rights of docs/rights.md on the topics of tests. kfake's clients have
// all rights.
func (b *SecureBroker) Grant(t testing.TB, principal string) {
	t.Helper()
	b.alter(t, principal, func(builder *kadm.ACLBuilder) error {
		results, err := b.admin.CreateACLs(t.Context(), builder)
		for _, one := range results {
			err = errors.Join(err, one.Err)
		}
		return err
	})
}

// Revoke takes what Grant gave.
func (b *SecureBroker) Revoke(t testing.TB, principal string) {
	t.Helper()
	b.alter(t, principal, func(builder *kadm.ACLBuilder) error {
		results, err := b.admin.DeleteACLs(t.Context(), builder)
		for _, one := range results {
			err = errors.Join(err, one.Err)
		}
		return err
	})
}

func (b *SecureBroker) alter(t testing.TB, principal string, change func(*kadm.ACLBuilder) error) {
	t.Helper()
	if b.admin == nil {
		return
	}
	rights := func(operations ...kadm.ACLOperation) *kadm.ACLBuilder {
		return kadm.NewACLs().Allow(principal).AllowHosts("*").Operations(operations...).
			ResourcePatternType(kadm.ACLPatternPrefixed)
	}
	for _, builder := range []*kadm.ACLBuilder{
		rights(kadm.OpCreate, kadm.OpRead, kadm.OpWrite, kadm.OpDescribeConfigs).Topics(secureTopics),
		rights(kadm.OpWrite).TransactionalIDs(secureTopics),
	} {
		if err := change(builder); err != nil {
			t.Fatal(err)
		}
	}
}
