package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// docker runs a docker command and returns what it printed on stdout.
func docker(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(stdout.String()), nil
}

// revive starts a stopped container; its ports may not be free at once.
func revive(ctx context.Context, container string) (err error) {
	for range 20 {
		if _, err = docker(ctx, "start", container); err == nil || ctx.Err() != nil {
			return err
		}
		pause(ctx, 250*time.Millisecond)
	}
	return err
}

const (
	password = "chaos" // Of a database that lives for minutes, on the loopback.
	topic    = "payments"
)

// postgres is the database, in a container.
type postgres struct {
	container string
	port      int
	pool      *pgxpool.Pool // The test's own way in, past all proxies.
}

func databaseURL(user string, port int) string {
	return fmt.Sprintf("postgres://%s:%s@%s/paylatch?sslmode=disable&connect_timeout=5", user, password, address(port))
}

func newPostgres(ctx context.Context, run string, port int) (*postgres, error) {
	p := &postgres{container: run + "-postgres", port: port}
	_, err := docker(ctx, "run", "--detach", "--name", p.container, "--publish", address(port)+":5432", "--shm-size", "256m",
		"--env", "POSTGRES_USER=paylatch", "--env", "POSTGRES_PASSWORD="+password, "--env", "POSTGRES_DB=paylatch",
		"postgres:17", "-c", "max_connections=400")
	if err != nil {
		return p, err
	}
	if p.pool, err = pgxpool.New(ctx, databaseURL("paylatch", port)); err != nil {
		return p, err
	}
	return p, p.ready(ctx)
}

// ready waits until the database answers.
func (p *postgres) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := p.pool.Ping(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("PostgreSQL does not come up: %w", err)
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// crash is an immediate stop, as `pg_ctl -m immediate` does it, and a start some time after.
func (p *postgres) crash(ctx context.Context, down time.Duration) error {
	if _, err := docker(ctx, "kill", "--signal", "QUIT", p.container); err != nil {
		return err
	}
	if _, err := docker(ctx, "wait", p.container); err != nil {
		return err
	}
	pause(ctx, down)
	if err := revive(ctx, p.container); err != nil {
		return err
	}
	return p.ready(ctx)
}

// roleOf is a replica's database user, by which its sessions are told from others'.
func roleOf(slot int) string { return fmt.Sprintf("replica%d", slot) }

// addRoles makes the replicas' users, who may do what the owner of the tables may.
func (p *postgres) addRoles(ctx context.Context, slots int) error {
	for slot := range slots {
		if _, err := p.pool.Exec(ctx, fmt.Sprintf(`create role %s login password '%s' in role paylatch`, roleOf(slot), password)); err != nil {
			return err
		}
	}
	return nil
}

// The lock class is package store's.
const selectOwned = `select l.objid::bigint, p.generation from pg_locks l join pg_stat_activity a using (pid) join topic_partitions p on p.partition = l.objid::bigint
	where l.locktype = 'advisory' and l.granted and l.objsubid = 2 and l.classid::bigint = 1886413922 and a.usename = $1`

// ownedBy tells which partitions a replica owns, and their generations.
func (p *postgres) ownedBy(ctx context.Context, slot int) (map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	rows, err := p.pool.Query(ctx, selectOwned, roleOf(slot))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	owned := map[int32]int64{}
	for rows.Next() {
		var partition, generation int64
		if err := rows.Scan(&partition, &generation); err != nil {
			return nil, err
		}
		owned[int32(partition)] = generation
	}
	return owned, rows.Err()
}

const terminate = `select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = $1`

// endSessions ends all of a replica's sessions.
func (p *postgres) endSessions(ctx context.Context, slot int) (n int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	err = p.pool.QueryRow(ctx, terminate, roleOf(slot)).Scan(&n)
	return n, err
}

// Taken over is a partition that another replica owns; in fenced delivery it has moved the generation, too.
const selectTakenOver = `select count(*) from pg_locks l join pg_stat_activity a using (pid) join topic_partitions p on p.partition = l.objid::bigint
	where l.locktype = 'advisory' and l.granted and l.objsubid = 2 and l.classid::bigint = 1886413922 and a.usename <> $1
	and p.partition = $2 and (p.delivery = 'locked' or p.generation > $3)`

// takenOver counts the partitions that another replica has taken over.
func (p *postgres) takenOver(ctx context.Context, slot int, owned map[int32]int64) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for partition, generation := range owned {
		var one int
		if err := p.pool.QueryRow(ctx, selectTakenOver, roleOf(slot), partition, generation).Scan(&one); err != nil {
			return n, err
		}
		n += one
	}
	return n, nil
}

// kafka is the brokers, in containers.
type kafka struct {
	containers []string
	ports      []int // For the judges, past all proxies.
}

// brokerPorts is where one broker is reached: the listener of each slot has a published port, and is advertised as that slot's proxy.
type brokerPorts struct {
	direct    int
	published []int
	proxy     []int
}

// newKafka starts as many brokers as there are ports. Each is broker and controller; all but the judges' listener are for one replica each, so that its links can
// be cut alone. Among themselves brokers use a listener that they reach inside the network, without which transactions hang.
func newKafka(ctx context.Context, run string, ports []brokerPorts) (*kafka, error) {
	k := &kafka{}
	if _, err := docker(ctx, "network", "create", run); err != nil {
		return k, err
	}
	var voters []string
	for i := range ports {
		voters = append(voters, fmt.Sprintf("%d@%s-kafka-%d:9093", i+1, run, i+1))
	}
	replication, inSync := len(ports), min(2, len(ports))
	for i, p := range ports {
		name := fmt.Sprintf("%s-kafka-%d", run, i+1)
		listeners := []string{"INTERNAL://:29092", "CONTROLLER://:9093", "DIRECT://:9092"}
		advertised := []string{"INTERNAL://" + name + ":29092", "DIRECT://" + address(p.direct)}
		protocols := []string{"INTERNAL:PLAINTEXT", "CONTROLLER:PLAINTEXT", "DIRECT:PLAINTEXT"}
		publish := []string{"--publish", address(p.direct) + ":9092"}
		for slot := range p.published {
			inside := 19_100 + slot
			listeners = append(listeners, fmt.Sprintf("R%d://:%d", slot, inside))
			advertised = append(advertised, fmt.Sprintf("R%d://%s", slot, address(p.proxy[slot])))
			protocols = append(protocols, fmt.Sprintf("R%d:PLAINTEXT", slot))
			publish = append(publish, "--publish", fmt.Sprintf("%s:%d", address(p.published[slot]), inside))
		}
		args := append([]string{"run", "--detach", "--name", name, "--hostname", name, "--network", run}, publish...)
		for _, setting := range []string{
			fmt.Sprintf("KAFKA_NODE_ID=%d", i+1), "CLUSTER_ID=cGF5bGF0Y2gtY2hhb3MtMA", "KAFKA_PROCESS_ROLES=broker,controller",
			"KAFKA_LISTENERS=" + strings.Join(listeners, ","), "KAFKA_ADVERTISED_LISTENERS=" + strings.Join(advertised, ","),
			"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP=" + strings.Join(protocols, ","),
			"KAFKA_INTER_BROKER_LISTENER_NAME=INTERNAL", "KAFKA_CONTROLLER_LISTENER_NAMES=CONTROLLER",
			"KAFKA_CONTROLLER_QUORUM_VOTERS=" + strings.Join(voters, ","), "KAFKA_LOG_DIRS=/tmp/kafka",
			fmt.Sprintf("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR=%d", replication), "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS=1",
			fmt.Sprintf("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR=%d", replication), fmt.Sprintf("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR=%d", inSync),
			"KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS=6", "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS=0", "KAFKA_AUTO_CREATE_TOPICS_ENABLE=false",
			"KAFKA_BROKER_SESSION_TIMEOUT_MS=4000", "KAFKA_BROKER_HEARTBEAT_INTERVAL_MS=500", // A killed broker is noticed, and let in again, sooner.
			"KAFKA_HEAP_OPTS=-Xms256m -Xmx512m",
		} {
			args = append(args, "--env", setting)
		}
		k.containers, k.ports = append(k.containers, name), append(k.ports, p.direct)
		if _, err := docker(ctx, append(args, "apache/kafka:4.3.1")...); err != nil {
			return k, err
		}
	}
	for i := range ports {
		if err := k.ready(ctx, i); err != nil {
			return k, err
		}
	}
	return k, nil
}

// brokers is where the judges read.
func (k *kafka) brokers() string {
	var all []string
	for _, p := range k.ports {
		all = append(all, address(p))
	}
	return strings.Join(all, ",")
}

// metadata asks one broker what it knows of the topics, and of all brokers.
func (k *kafka) metadata(ctx context.Context, ports []int, topics ...string) (*kmsg.MetadataResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var seeds []string
	for _, p := range ports {
		seeds = append(seeds, address(p))
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(seeds...), kgo.RequestRetries(1), kgo.DialTimeout(time.Second), kgo.DisableClientMetrics())
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

const transactionState = "__transaction_state"

// ready waits until a broker answers itself, knows all others, and all replicas of our topics are in sync: only then may the next one be killed.
func (k *kafka) ready(ctx context.Context, broker int) error {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	for {
		err := k.whole(ctx, broker)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("broker %d is not back after 90 s: %w", broker+1, err)
		}
		pause(ctx, 200*time.Millisecond)
	}
}

func (k *kafka) whole(ctx context.Context, broker int) error {
	meta, err := k.metadata(ctx, k.ports[broker:broker+1], topic, transactionState)
	if err != nil {
		return err
	}
	if len(meta.Brokers) != len(k.ports) {
		return fmt.Errorf("%d of %d brokers are there", len(meta.Brokers), len(k.ports))
	}
	for _, t := range meta.Topics {
		for _, p := range t.Partitions {
			if p.Leader < 0 || len(p.ISR) != len(k.ports) {
				return fmt.Errorf("%s/%d has leader %d and %d replicas in sync", *t.Topic, p.Partition, p.Leader, len(p.ISR))
			}
		}
	}
	return nil
}

// leader tells which broker leads a partition of the topic, or coordinates the transactions of one.
func (k *kafka) leader(ctx context.Context, number int) (broker int, role string, err error) {
	name, role := topic, "leader"
	if number%2 == 1 {
		name, role = transactionState, "coordinator"
	}
	meta, err := k.metadata(ctx, k.ports, name)
	if err != nil {
		return 0, "", err
	}
	for _, t := range meta.Topics {
		if len(t.Partitions) > 0 {
			if p := t.Partitions[number/2%len(t.Partitions)]; p.Leader > 0 {
				return int(p.Leader) - 1, fmt.Sprintf("%s of %s/%d", role, name, p.Partition), nil
			}
		}
	}
	return 0, "", errors.New("no leader")
}

// crash ends a broker as power does, and starts it some time after.
func (k *kafka) crash(ctx context.Context, broker int, down time.Duration) error {
	if _, err := docker(ctx, "kill", "--signal", "KILL", k.containers[broker]); err != nil {
		return err
	}
	pause(ctx, down)
	if err := revive(ctx, k.containers[broker]); err != nil {
		return err
	}
	return k.ready(ctx, broker)
}

// removeContainers removes all that a run made in Docker.
func removeContainers(run string) error {
	ctx, cancel := context.WithTimeout(background, time.Minute)
	defer cancel()
	names, err := docker(ctx, "ps", "--all", "--quiet", "--filter", "name=^"+run+"-")
	if err == nil && names != "" {
		_, err = docker(ctx, append([]string{"rm", "--force", "--volumes"}, strings.Fields(names)...)...)
	}
	networks, networkErr := docker(ctx, "network", "ls", "--quiet", "--filter", "name=^"+run+"$")
	if networkErr == nil && networks != "" {
		_, networkErr = docker(ctx, append([]string{"network", "rm"}, strings.Fields(networks)...)...)
	}
	return errors.Join(err, networkErr)
}
