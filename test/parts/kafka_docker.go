package parts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

// newDockerBroker starts Apache Kafka on a host port that is known beforehand. The broker
// advertises it to clients, and keeps it when it is started again. The broker talks to itself over
// another listener, without which transactions hang. A third one is advertised at the container's
// own address, which is known only inside the container once it runs.
func newDockerBroker(p profile) (*Broker, func() error, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	port, err := freePort()
	if err != nil {
		return nil, nil, err
	}
	// Also when it is started again.
	ready := wait.ForAll(wait.ForLog("Kafka Server started"),
		wait.ForListeningPort("9092/tcp").WithStartupTimeout(startTimeout))
	c, err := testcontainers.Run(ctx, "apache/kafka:4.3.1",
		testcontainers.WithExposedPorts("9092/tcp"),
		testcontainers.WithHostConfigModifier(publish("9092/tcp", port)),
		testcontainers.WithEnv(map[string]string{
			"KAFKA_NODE_ID":       "1",
			"KAFKA_PROCESS_ROLES": "broker,controller",
			"KAFKA_LISTENERS": "PLAINTEXT://:9092,OWN://:9095,BROKER://localhost:29092," +
				"CONTROLLER://localhost:9093",
			"KAFKA_ADVERTISED_LISTENERS": fmt.Sprintf(
				"PLAINTEXT://127.0.0.1:%d,BROKER://localhost:29092", port),
			"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,OWN:PLAINTEXT,BROKER:PLAINTEXT," +
				"CONTROLLER:PLAINTEXT",
			"KAFKA_INTER_BROKER_LISTENER_NAME":               "BROKER",
			"KAFKA_CONTROLLER_LISTENER_NAMES":                "CONTROLLER",
			"KAFKA_CONTROLLER_QUORUM_VOTERS":                 "1@localhost:9093",
			"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR":         "1",
			"KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS":             "1",
			"KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
			"KAFKA_TRANSACTION_STATE_LOG_MIN_ISR":            "1",
			"KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS":     "1",
			"KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS":         "0",
			"KAFKA_AUTO_CREATE_TOPICS_ENABLE":                "false",
			"KAFKA_LOG_DIRS":                                 "/tmp/kafka",
		}),
		testcontainers.WithCmd("sh", "-c", atStart+
			`KAFKA_ADVERTISED_LISTENERS="$KAFKA_ADVERTISED_LISTENERS,OWN://$(hostname -i):9095" `+
			`exec /etc/kafka/docker/run`),
		testcontainers.WithWaitStrategyAndDeadline(startTimeout, ready))
	end := func() error { return testcontainers.TerminateContainer(c) }
	if err != nil {
		return nil, end, fmt.Errorf("apache/kafka:4.3.1: %w", err)
	}
	b := &Broker{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	if p == profileBench {
		b.Addr = ownAddress(ctx, c, "9095", b.Addr)
		state, err := c.State(ctx)
		if err != nil {
			return nil, end, err
		}
		b.pid = state.Pid
	}
	b.pause = func(ctx context.Context, paused bool) error { return setPaused(ctx, c.GetContainerID(), paused) }
	stop := func(ctx context.Context, grace time.Duration) error { return c.Stop(ctx, &grace) }
	start := func(ctx context.Context, first string) error {
		return errors.Join(c.CopyToContainer(ctx, []byte(first), "/tmp/at-start", 0o644), c.Start(ctx))
	}
	b.stop = func(ctx context.Context) error { return stop(ctx, stopGrace) }
	b.start = func(ctx context.Context) error { return start(ctx, "") }
	b.keep = func(ctx context.Context) error { return errors.Join(stop(ctx, stopGrace), start(ctx, "keep")) }
	// With 0 it is killed by SIGKILL.
	b.putBack = func(ctx context.Context) error { return errors.Join(stop(ctx, 0), start(ctx, "put back")) }
	return b, end, nil
}

// stopGrace is how long a broker may take to stop cleanly.
const stopGrace = 20 * time.Second

// atStart copies the logs, or restores the copy, before the broker starts. Only then are they not
// written.
const atStart = `case "$(cat /tmp/at-start 2>/dev/null)" in
	keep) rm -rf /tmp/kept && cp -a /tmp/kafka /tmp/kept ;;
	"put back") rm -rf /tmp/kafka && cp -a /tmp/kept /tmp/kafka ;;
esac
`

// publish binds a container's port to one of this machine's loopback.
func publish(inside string, port int) func(*container.HostConfig) {
	return func(hc *container.HostConfig) {
		hc.PortBindings = network.PortMap{network.MustParsePort(inside): {
			{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: strconv.Itoa(port)},
		}}
	}
}

// freePort returns a port that is free now. Nothing holds it until the container takes it. If
// another program is faster, the start fails.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}
