package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/paylatch/paylatch/internal/app"
	"github.com/paylatch/paylatch/internal/cli"
	"github.com/paylatch/paylatch/internal/embedded"
	"github.com/paylatch/paylatch/internal/loadtest"
	"github.com/paylatch/paylatch/internal/operator"
)

// dataSettings name the directory of the demo.
type dataSettings struct {
	Data string `env:"PAYLATCH_DATA" default:".paylatch" help:"Where everything is kept across restarts; delete it to start from nothing."`
}

type runCommand struct {
	dataSettings
	Ephemeral   bool         `help:"Keep nothing: temporary data, removed at the end."`
	Listen      loopback     `env:"PAYLATCH_LISTEN" default:"127.0.0.1:8080" help:"Where the API listens."`
	AdminListen loopback     `env:"PAYLATCH_ADMIN_LISTEN" placeholder:"HOST:PORT" help:"Where /metrics and /debug/pprof/ listen; by default the next free port after that of the API."`
	KafkaListen loopback     `env:"PAYLATCH_KAFKA_LISTEN" default:"127.0.0.1:9092" help:"Where the broker listens."`
	PostgresBin string       `env:"PAYLATCH_POSTGRES_BIN" placeholder:"DIR" help:"A directory with initdb, pg_ctl and postgres; by default PostgreSQL is downloaded once."`
	Senders     senders      `env:"PAYLATCH_SENDERS" default:"2" help:"Senders, which share the partitions."`
	Simulate    payments     `default:"0" placeholder:"N" help:"Make N payments once everything is up, and show the way of each."`
	LogLevel    app.LogLevel `env:"PAYLATCH_LOG_LEVEL" default:"error" help:"debug, info, warn or error."`
}

// loopback is an address that no other machine reaches: the key, the database's password and the
// broker are open to all.
type loopback string

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *loopback) UnmarshalText(text []byte) error {
	*l = loopback(text)
	if err := (*app.Address)(l).UnmarshalText(text); err != nil {
		return err
	}
	host, _, _ := net.SplitHostPort(string(text))
	if host != "localhost" && !net.ParseIP(host).IsLoopback() {
		return fmt.Errorf("%q must be a loopback address: the demo guards nothing", text)
	}
	return nil
}

// senders is a number of senders in one process.
type senders int

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *senders) UnmarshalText(text []byte) error { return parseInteger((*int)(n), text, 1, 64) }

// payments is a number of payments to simulate.
type payments int

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *payments) UnmarshalText(text []byte) error {
	return parseInteger((*int)(n), text, 0, loadtest.SimulateMax)
}

func parseInteger(to *int, text []byte, least, most int) (err error) {
	*to, err = strconv.Atoi(string(text))
	if err != nil || *to < least || *to > most {
		return fmt.Errorf("%q is no number from %d to %d", text, least, most)
	}
	return nil
}

// Run starts the demo and serves until ctx ends.
func (c *runCommand) Run(ctx context.Context, out cli.Output) (err error) {
	var files *files
	if c.Ephemeral {
		c.Data = ""
	} else {
		c.Data, err = filepath.Abs(c.Data)
		if err != nil {
			return err
		}
		files, err = lock(c.Data)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, files.close()) }()
	}
	stages := &stages{out: out.Stderr}
	stop := stages.show(ctx)
	stages.begin("starting a Kafka broker")
	d, err := c.start(ctx, app.NewLogger(out.Stderr, c.LogLevel), stages)
	stop()
	if err != nil {
		return c.explain(err)
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	if files != nil {
		if err := files.write(d.addresses()); err != nil {
			return err
		}
	}
	return d.run(ctx, int(c.Simulate), out.Stdout)
}

// explain adds to an error what the user can do about it.
func (c *runCommand) explain(err error) error {
	if errors.Is(err, operator.ErrHoldsRecords) {
		return fmt.Errorf("the broker's log in %s is older than its database, which is new or was lost: "+
			"delete the directory to start from nothing (%w)", c.Data, err)
	}
	if errors.Is(err, embedded.ErrPortInUse) {
		return app.PortInUse("kafka-listen", app.Address(c.KafkaListen))
	}
	return err
}

// postgresLog shows PostgreSQL's own log at level debug.
func (c *runCommand) postgresLog() io.Writer {
	if slog.Level(c.LogLevel) <= slog.LevelDebug {
		return os.Stderr
	}
	return nil
}

// adminTries is how many ports are tried for the admin listener, after that of the API.
const adminTries = 100

// ports are those of the service, held until it opens them itself: starting PostgreSQL takes
// seconds.
type ports struct{ api, admin net.Listener }

// hold opens the API's port and that of the admin listener.
func (c *runCommand) hold() (p ports, err error) {
	p.api, err = app.Listen("listen", app.Address(c.Listen))
	if err != nil {
		return p, err
	}
	if c.AdminListen != "" {
		p.admin, err = app.Listen("admin-listen", app.Address(c.AdminListen))
	} else {
		p.admin, err = listenAfter(p.api.Addr().(*net.TCPAddr))
	}
	return p, err
}

// listenAfter opens the first free port after the one given, or any free one.
func listenAfter(a *net.TCPAddr) (net.Listener, error) {
	for port := a.Port + 1; port <= a.Port+adminTries && port <= 65535; port++ {
		if l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: a.IP, Port: port}); err == nil {
			return l, nil
		}
	}
	return net.ListenTCP("tcp", &net.TCPAddr{IP: a.IP})
}

// release closes the ports and returns their addresses.
func (p ports) release() (api, admin app.Address) {
	_ = p.api.Close()
	_ = p.admin.Close()
	return app.Address(p.api.Addr().String()), app.Address(p.admin.Addr().String())
}

// close closes the ports that are open.
func (p ports) close() {
	for _, l := range []net.Listener{p.api, p.admin} {
		if l != nil {
			_ = l.Close()
		}
	}
}
