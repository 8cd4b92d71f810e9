package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Ports of this test's own, so that it can run beside `make up` and `make run`.
const (
	postgresPort = "15433"
	kafkaPort    = "19093"
	apiPorts     = "18300-18319"
	adminPorts   = "18400-18419"
)

// databaseURL is the compose file's PostgreSQL, from this machine.
const databaseURL = "postgres://paylatch:paylatch@127.0.0.1:" + postgresPort + "/paylatch?sslmode=disable"

// compose is docker-compose.yml under a project's name.
type compose struct{ project string }

// command runs docker and returns what it printed on stdout.
func (c compose) command(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), "POSTGRES_PORT="+postgresPort, "KAFKA_PORT="+kafkaPort, "API_PORTS="+apiPorts, "ADMIN_PORTS="+adminPorts)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("docker %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), nil
}

func (c compose) compose(ctx context.Context, args ...string) (string, error) {
	return c.command(ctx, append([]string{"compose", "--project-name", c.project, "--profile", "client"}, args...)...)
}

func (c compose) down(ctx context.Context) error {
	_, err := c.compose(ctx, "down", "--volumes", "--timeout", "30")
	return err
}

// scale brings the number of running replicas to n; those that are there go on.
func (c compose) scale(ctx context.Context, n int) error {
	_, err := c.compose(ctx, "up", "--build", "--detach", "--wait", "--no-recreate", "--scale", "paylatch="+strconv.Itoa(n), "paylatch")
	return err
}

// running lists the replicas' containers.
func (c compose) running(ctx context.Context) ([]string, error) {
	out, err := c.compose(ctx, "ps", "--status", "running", "--format", "{{.Name}}", "paylatch")
	return strings.Fields(out), err
}

func (c compose) kill(ctx context.Context, container string) error {
	_, err := c.command(ctx, "kill", "--signal", "KILL", container)
	return err
}

func (c compose) stop(ctx context.Context, container string) error {
	_, err := c.command(ctx, "stop", "--time", "30", container)
	return err
}

// sentBy asks each running replica how many payments it has sent since its start.
func (c compose) sentBy(ctx context.Context) (map[string]int64, error) {
	return c.metric(ctx, "paylatch_payments_sent_total")
}

// ownedBy asks each running replica how many partitions it owns.
func (c compose) ownedBy(ctx context.Context) (map[string]int, error) {
	values, err := c.metric(ctx, "paylatch_sender_partitions_owned")
	owned := map[string]int{}
	for name, n := range values {
		owned[name] = int(n)
	}
	return owned, err
}

func (c compose) metric(ctx context.Context, name string) (map[string]int64, error) {
	names, err := c.running(ctx)
	if err != nil {
		return nil, err
	}
	values := map[string]int64{}
	for _, container := range names {
		address, err := c.command(ctx, "port", container, "8081/tcp")
		if err != nil {
			return nil, err
		}
		body, err := get(ctx, "http://"+strings.TrimSpace(address)+"/metrics")
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(body) {
			if value, ok := strings.CutPrefix(line, name+" "); ok {
				n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
				if err != nil {
					return nil, err
				}
				values[container] = int64(n)
			}
		}
	}
	return values, nil
}

func get(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

// owned counts the partitions that some session owns; the lock class is package store's.
func (c compose) owned(ctx context.Context) (int64, error) {
	return c.count(ctx, `select count(*) from pg_locks where locktype = 'advisory' and granted and objsubid = 2 and classid::bigint = 1886413922`)
}

// count asks the database one number.
func (c compose) count(ctx context.Context, sql string) (n int64, err error) {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	err = conn.QueryRow(ctx, sql).Scan(&n)
	return n, err
}

// loadResult is what payclient's load says of itself.
type loadResult struct {
	Writes  work  `json:"writes"`
	Reads   work  `json:"reads"`
	Replays int64 `json:"replays"`
	Retries int64 `json:"retries"`
}

type work struct {
	Done    int64 `json:"done"`
	Failed  int64 `json:"failed"`
	Unknown int64 `json:"unknown"`
	Latency struct {
		P50 int64 `json:"p50_ns"`
		P99 int64 `json:"p99_ns"`
	} `json:"latency"`
	Answers map[string]int64 `json:"answers"`
}

func parseLoad(out string) (r loadResult, err error) {
	err = json.Unmarshal([]byte(out), &r)
	return r, err
}
