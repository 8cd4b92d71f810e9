package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Ports of this test's own, so that it can run next to `make up` and `make run`.
const (
	postgresPort = "15433"
	apiPort      = "18300"
	statsPort    = "18301"
	adminPorts   = "18400-18419"
)

// kafkaPorts are those of the brokers, in order.
var kafkaPorts = []string{"19093", "19094", "19095"}

const (
	// databaseURL is the compose file's PostgreSQL, from this machine.
	databaseURL = "postgres://paylatch:paylatch@127.0.0.1:" + postgresPort + "/paylatch?sslmode=disable"
	// serverURL is the one address in front of all replicas.
	serverURL = "http://127.0.0.1:" + apiPort
	// developmentKey is the tenant's API key in docker-compose.yml.
	developmentKey = "pl_dev_DevelopmentOnlyGuardsNothing00001xSUng"
)

// Images of this test's own: Compose labels an image with its project, and `make up` has its own.
const (
	currentImage = "paylatch:scale"
	nextImage    = "paylatch:scale-next"
)

// compose is docker-compose.yml, with three brokers also docker-compose.cluster.yml, under a
// project's name.
type compose struct {
	project    string
	brokers    int
	drainDelay string
}

// command runs docker with this test's ports and the current image.
func (c compose) command(ctx context.Context, args ...string) (string, error) {
	return c.commandWith(ctx, currentImage, args...)
}

// commandWith runs docker with this test's ports and an image for the program. It returns stdout.
func (c compose) commandWith(ctx context.Context, image string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(),
		"POSTGRES_PORT="+postgresPort, "API_PORT="+apiPort, "BALANCER_STATS_PORT="+statsPort, "ADMIN_PORTS="+adminPorts,
		"KAFKA_PORT="+kafkaPorts[0], "KAFKA_2_PORT="+kafkaPorts[1], "KAFKA_3_PORT="+kafkaPorts[2],
		"PAYLATCH_IMAGE="+image, "PAYLATCH_DRAIN_DELAY="+c.drainDelay)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("docker %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(stdout.String()), nil
}

func (c compose) compose(ctx context.Context, args ...string) (string, error) {
	return c.composeWith(ctx, currentImage, args...)
}

func (c compose) composeWith(ctx context.Context, image string, args ...string) (string, error) {
	files := []string{"compose", "--project-name", c.project, "--file", "docker-compose.yml"}
	if c.brokers > 1 {
		files = append(files, "--file", "docker-compose.cluster.yml")
	}
	return c.commandWith(ctx, image, append(files, args...)...)
}

// down removes everything. The data go too, so that nothing is worth a clean stop.
func (c compose) down(ctx context.Context) error {
	_, err := c.compose(ctx, "down", "--volumes", "--remove-orphans", "--timeout", "1")
	return err
}

// finish removes the containers. It saves their logs before, if the test failed.
func (c compose) finish(failed, keep bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), finishTimeout)
	defer cancel()
	var err error
	if failed {
		err = c.saveLogs(ctx)
	}
	if keep {
		return err
	}
	return errors.Join(err, c.down(ctx))
}

func (c compose) saveLogs(ctx context.Context) error {
	logs, err := c.compose(ctx, "logs", "--no-color", "--timestamps")
	if err != nil {
		return err
	}
	file, err := os.CreateTemp("", "paylatch-scale-*.log")
	if err != nil {
		return err
	}
	_, err = file.WriteString(logs)
	fmt.Fprintln(os.Stderr, "the containers' logs:", file.Name())
	return errors.Join(err, file.Close())
}

// up is what a user runs to have n replicas, with further arguments of `docker compose up`.
func (c compose) up(ctx context.Context, n int, args ...string) error {
	args = append([]string{"up", "--detach", "--wait", "--scale", "paylatch=" + strconv.Itoa(n)}, args...)
	_, err := c.compose(ctx, args...)
	return err
}

// run runs one command of the program in a container of its own.
func (c compose) run(ctx context.Context, image string, args ...string) (string, error) {
	return c.composeWith(ctx, image, append([]string{"run", "--rm", "-T", "--no-deps", "setup"}, args...)...)
}

// container is a replica's container at one moment.
type container struct {
	name    string
	id      string
	image   string
	started string
}

// running lists the replicas' containers.
func (c compose) running(ctx context.Context) ([]container, error) {
	out, err := c.compose(ctx, "ps", "--status", "running", "--quiet", "paylatch")
	if err != nil || out == "" {
		return nil, err
	}
	const format = "{{.Name}} {{.Id}} {{.Image}} {{.State.StartedAt}}"
	out, err = c.command(ctx, append([]string{"inspect", "--format", format}, strings.Fields(out)...)...)
	if err != nil {
		return nil, err
	}
	var list []container
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 4 {
			return nil, fmt.Errorf("docker inspect printed %q", line)
		}
		list = append(list, container{name: strings.TrimPrefix(f[0], "/"), id: f[1], image: f[2], started: f[3]})
	}
	return list, nil
}

// kill ends a container as a crash does, and makes sure that this is how it ended.
func (c compose) kill(ctx context.Context, name string) error {
	if _, err := c.command(ctx, "kill", "--signal", "KILL", name); err != nil {
		return err
	}
	return c.ended(ctx, name, 137)
}

// stop ends a container by SIGTERM within its grace period, and makes sure that it ended by itself.
func (c compose) stop(ctx context.Context, name string) error {
	if _, err := c.command(ctx, "stop", name); err != nil {
		return err
	}
	return c.ended(ctx, name, 0)
}

// ended waits for the end of a container and checks its exit code; 137 is that of SIGKILL.
func (c compose) ended(ctx context.Context, name string, want int) error {
	code, err := c.command(ctx, "wait", name)
	if err == nil && code != strconv.Itoa(want) {
		err = fmt.Errorf("container %s ended with exit code %s, want %d", name, code, want)
	}
	return err
}

// imageID returns the id of an image.
func (c compose) imageID(ctx context.Context, image string) (string, error) {
	return c.command(ctx, "image", "inspect", "--format", "{{.Id}}", image)
}

// database runs a query on a connection of its own.
func (c compose) database(ctx context.Context, query func(*pgx.Conn) error) (err error) {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	return query(conn)
}

// count queries the database for one number.
func (c compose) count(ctx context.Context, sql string) (n int64, err error) {
	err = c.database(ctx, func(conn *pgx.Conn) error { return conn.QueryRow(ctx, sql).Scan(&n) })
	return n, err
}

// sentByPartition counts the payments that each partition has emitted.
func (c compose) sentByPartition(ctx context.Context) (map[int32]int64, error) {
	sent := map[int32]int64{}
	err := c.database(ctx, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `select partition, count(*) from payments
			where status = 'sent' group by partition`)
		if err != nil {
			return err
		}
		var partition int32
		var n int64
		_, err = pgx.ForEachRow(rows, []any{&partition, &n}, func() error {
			sent[partition] = n
			return nil
		})
		return err
	})
	return sent, err
}
