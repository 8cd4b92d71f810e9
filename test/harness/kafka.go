package harness

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Topic is what the test programs emit payments to.
const Topic = "payments"

// TransactionState is Kafka's own topic of transactions.
const TransactionState = "__transaction_state"

// Kafka is brokers in containers, on the network that has the run's name.
type Kafka struct {
	Containers []string
	ports      []int // Of the listener for judges, which no link can cut.
}

// BrokerPorts says where one broker is reached. For each slot it has a listener with a port of its
// own, published on this machine and advertised as the port of that slot's link.
type BrokerPorts struct {
	Direct     int
	Published  []int
	Advertised []int
}

// NewKafka starts as many brokers as there are ports; each is broker and controller. Among
// themselves the brokers use a listener that they reach inside the network, because a broker that
// cannot reach itself never ends a transaction.
func NewKafka(ctx context.Context, run string, ports []BrokerPorts) (*Kafka, error) {
	k := &Kafka{}
	if _, err := Docker(ctx, "network", "create", run); err != nil {
		return k, err
	}
	var voters []string
	for i := range ports {
		voters = append(voters, fmt.Sprintf("%d@%s-kafka-%d:9093", i+1, run, i+1))
	}
	for i, p := range ports {
		name := fmt.Sprintf("%s-kafka-%d", run, i+1)
		args := []string{"run", "--detach", "--name", name, "--hostname", name, "--network", run}
		args = append(args, listeners(name, p)...)
		for _, setting := range settings(i+1, len(ports), voters) {
			args = append(args, "--env", setting)
		}
		k.Containers, k.ports = append(k.Containers, name), append(k.ports, p.Direct)
		if _, err := Docker(ctx, append(args, "apache/kafka:4.3.1")...); err != nil {
			return k, err
		}
	}
	for i := range ports {
		if err := k.Ready(ctx, i); err != nil {
			return k, err
		}
	}
	return k, nil
}

// listeners returns the docker options for a broker's listeners and published ports.
func listeners(name string, p BrokerPorts) []string {
	bound := []string{"INTERNAL://:29092", "CONTROLLER://:9093", "DIRECT://:9092"}
	advertised := []string{"INTERNAL://" + name + ":29092", "DIRECT://" + Address(p.Direct)}
	protocols := []string{"INTERNAL:PLAINTEXT", "CONTROLLER:PLAINTEXT", "DIRECT:PLAINTEXT"}
	options := []string{"--publish", Address(p.Direct) + ":9092"}
	for slot := range p.Published {
		inside := 19_100 + slot
		bound = append(bound, fmt.Sprintf("R%d://:%d", slot, inside))
		advertised = append(advertised, fmt.Sprintf("R%d://%s", slot, Address(p.Advertised[slot])))
		protocols = append(protocols, fmt.Sprintf("R%d:PLAINTEXT", slot))
		options = append(options, "--publish", fmt.Sprintf("%s:%d", Address(p.Published[slot]), inside))
	}
	return append(options, "--env", "KAFKA_LISTENERS="+strings.Join(bound, ","),
		"--env", "KAFKA_ADVERTISED_LISTENERS="+strings.Join(advertised, ","),
		"--env", "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP="+strings.Join(protocols, ","))
}

// settings returns the environment of broker id of n.
func settings(id, n int, voters []string) []string {
	return []string{
		fmt.Sprintf("KAFKA_NODE_ID=%d", id), "CLUSTER_ID=cGF5bGF0Y2gtY2hhb3MtMA",
		"KAFKA_PROCESS_ROLES=broker,controller",
		"KAFKA_INTER_BROKER_LISTENER_NAME=INTERNAL", "KAFKA_CONTROLLER_LISTENER_NAMES=CONTROLLER",
		"KAFKA_CONTROLLER_QUORUM_VOTERS=" + strings.Join(voters, ","), "KAFKA_LOG_DIRS=/tmp/kafka",
		fmt.Sprintf("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR=%d", n), "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS=1",
		fmt.Sprintf("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR=%d", n),
		fmt.Sprintf("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR=%d", min(2, n)),
		"KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS=6", "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS=0",
		"KAFKA_AUTO_CREATE_TOPICS_ENABLE=false",
		// A killed broker is detected, and accepted again, sooner than by default.
		"KAFKA_BROKER_SESSION_TIMEOUT_MS=4000", "KAFKA_BROKER_HEARTBEAT_INTERVAL_MS=500",
		"KAFKA_HEAP_OPTS=-Xms256m -Xmx512m",
	}
}

// Brokers is the brokers' addresses for judges.
func (k *Kafka) Brokers() string {
	var all []string
	for _, p := range k.ports {
		all = append(all, Address(p))
	}
	return strings.Join(all, ",")
}

// Kcat reads the topic with kcat.
func (k *Kafka) Kcat(ctx context.Context, isolation string) ([]Record, error) {
	return Kcat(ctx, k.Brokers(), Topic, isolation)
}

// ConsoleConsumer reads the topic with Kafka's own tool.
func (k *Kafka) ConsoleConsumer(ctx context.Context) ([]Record, error) {
	return ConsoleConsumer(ctx, k.Containers[0], k.Containers[0]+":29092", Topic)
}

// metadata requests the metadata of topics from one of the brokers at the ports.
func (k *Kafka) metadata(ctx context.Context, ports []int, topics ...string) (*kmsg.MetadataResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var seeds []string
	for _, p := range ports {
		seeds = append(seeds, Address(p))
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(seeds...), kgo.RequestRetries(1), kgo.DialTimeout(time.Second),
		kgo.DisableClientMetrics())
	if err != nil {
		return nil, err
	}
	defer client.Close()
	request := kmsg.NewPtrMetadataRequest()
	for _, t := range topics {
		one := kmsg.NewMetadataRequestTopic()
		one.Topic = &t
		request.Topics = append(request.Topics, one)
	}
	return request.RequestWith(ctx, client)
}

// readyTimeout bounds the start of a broker, and the time until its replicas are in sync.
const readyTimeout = 90 * time.Second

// Ready waits until a broker responds, knows all others, and all replicas of the topics are in
// sync. Only then may the next broker be killed.
func (k *Kafka) Ready(ctx context.Context, broker int) error {
	return Eventually(ctx, readyTimeout, fmt.Sprintf("broker %d is ready", broker+1),
		func(ctx context.Context) error { return k.complete(ctx, broker) })
}

// complete returns nil if a broker knows all others and all replicas are in sync.
func (k *Kafka) complete(ctx context.Context, broker int) error {
	meta, err := k.metadata(ctx, k.ports[broker:broker+1], Topic, TransactionState)
	if err != nil {
		return err
	}
	if len(meta.Brokers) != len(k.ports) {
		return fmt.Errorf("%d of %d brokers are registered", len(meta.Brokers), len(k.ports))
	}
	for _, t := range meta.Topics {
		for _, p := range t.Partitions {
			if p.Leader < 0 || len(p.ISR) != len(k.ports) {
				return fmt.Errorf("%s/%d has leader %d and %d replicas in sync", *t.Topic, p.Partition, p.Leader,
					len(p.ISR))
			}
		}
	}
	return nil
}

// Leader returns the broker that leads one partition of a topic, chosen by number.
func (k *Kafka) Leader(ctx context.Context, topic string, number int) (broker int, partition int32, err error) {
	meta, err := k.metadata(ctx, k.ports, topic)
	if err != nil {
		return 0, 0, err
	}
	for _, t := range meta.Topics {
		if len(t.Partitions) > 0 {
			if p := t.Partitions[number%len(t.Partitions)]; p.Leader > 0 {
				return int(p.Leader) - 1, p.Partition, nil
			}
		}
	}
	return 0, 0, fmt.Errorf("topic %s has no leader", topic)
}

// Crash kills a broker with SIGKILL, and starts it after down.
func (k *Kafka) Crash(ctx context.Context, broker int, down time.Duration) error {
	if _, err := Docker(ctx, "kill", "--signal", "KILL", k.Containers[broker]); err != nil {
		return err
	}
	Pause(ctx, down)
	if err := Start(ctx, k.Containers[broker]); err != nil {
		return err
	}
	return k.Ready(ctx, broker)
}
