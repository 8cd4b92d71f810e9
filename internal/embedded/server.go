package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/paylatch/paylatch/internal/sleep"
)

const (
	startMax     = 2 * time.Minute // recovery after a crash reads at most max_wal_size of log
	startPoll    = 20 * time.Millisecond
	fastStopMax  = 30 * time.Second // a fast stop writes a checkpoint
	crashStopMax = 10 * time.Second // an immediate one gives its children 5 s and then kills them
)

// server is the postgres process, a direct child: its end is seen at once, and its log comes
// through a pipe.
type server struct {
	bin   string
	data  string
	port  int
	fsync bool
	log   io.Writer

	cmd    *exec.Cmd
	exited chan struct{}
	output *head
}

// startOn starts the server on the port; 0 = any free one, and another one if that has been taken
// meanwhile.
func (s *server) startOn(ctx context.Context, port int) error {
	if port != 0 {
		s.port = port
		return s.start(ctx)
	}
	const tries = 5
	var err error
	for range tries {
		s.port, err = freePort()
		if err != nil {
			return fmt.Errorf("no port is free for PostgreSQL on 127.0.0.1: %w", err)
		}
		err = s.start(ctx)
		if !errors.Is(err, ErrPortInUse) {
			break
		}
	}
	return err
}

// restart stops the server and starts it on the port it had. That port is ours to have again, but
// for an instant another connection may have it as its own end.
func (s *server) restart(ctx context.Context, immediate bool) error {
	stop := s.stop
	if immediate {
		stop = s.crash
	}
	if err := stop(); err != nil {
		return err
	}
	const tries = 20
	var err error
	for range tries {
		err = s.start(ctx)
		if !errors.Is(err, ErrPortInUse) {
			break
		}
		if err := sleep.For(ctx, 250*time.Millisecond); err != nil {
			return err
		}
	}
	return err
}

// start returns once the server takes connections, or else when it has ended.
func (s *server) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()

	s.output = &head{to: s.log}
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), s.arguments()...)
	cmd.Stdout, cmd.Stderr = s.output, s.output
	cmd.WaitDelay = crashStopMax // for children that outlive it and hold its log
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return faultf(ErrBinaries, "PostgreSQL could not be started (%v): give --postgres-bin a directory with "+
			"initdb, pg_ctl and postgres", err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(exited)
	}()
	s.cmd, s.exited = cmd, exited

	for !s.ready(begun) {
		select {
		case <-exited:
			return s.explain()
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("PostgreSQL was not ready in time: %w", ctx.Err()), s.stop())
		case <-time.After(startPoll):
		}
	}
	return nil
}

func (s *server) arguments() []string {
	fsync := "off"
	if s.fsync {
		fsync = "on"
	}
	args := []string{"-D", s.data, "-p", strconv.Itoa(s.port)}
	for _, setting := range []string{
		"listen_addresses=127.0.0.1",
		"unix_socket_directories=", // none: a path may be too long for one, or not ours to write
		"max_connections=200",
		"timezone=UTC",
		"log_timezone=UTC",
		"synchronous_commit=on", // whatever fsync is: the order of commits stays that of a real installation
		"fsync=" + fsync,
		"full_page_writes=" + fsync,
	} {
		args = append(args, "-c", setting)
	}
	return args
}

// ready reads what pg_ctl start -w reads: the server writes its pid, its start (line 3) and its
// status (line 8) to postmaster.pid. The file may be an earlier server's, even one with the same
// pid; its start is earlier then. (src/include/utils/pidfile.h)
func (s *server) ready(begun time.Time) bool {
	content, err := os.ReadFile(filepath.Join(s.data, "postmaster.pid"))
	if err != nil {
		return false
	}
	lines := strings.Split(string(content), "\n")
	if len(lines) < 8 {
		return false
	}
	pid, pidErr := strconv.Atoi(strings.TrimSpace(lines[0]))
	start, startErr := strconv.ParseInt(strings.TrimSpace(lines[2]), 10, 64)
	return pidErr == nil && startErr == nil &&
		pid == s.cmd.Process.Pid && start >= begun.Unix() && strings.TrimSpace(lines[7]) == "ready"
}

// explain says why the server ended before it was ready.
func (s *server) explain() error {
	line := s.output.relevantLine()
	switch all := s.output.text(); {
	case saysPortInUse(all):
		return faultf(ErrPortInUse, "port %d on 127.0.0.1 is in use: stop what uses it, or choose another port", s.port)
	case saysDiskFull(all):
		return faultf(nil, "PostgreSQL could not start (%s): free some disk space for %s and start again", line, s.data)
	default:
		return faultf(nil, "PostgreSQL could not start on %s (%s): its log says more", s.data, line)
	}
}

// stop ends the server cleanly, if need be by ever harder means. Committed data survive all of
// them; the harder ones cost a recovery.
func (s *server) stop() error {
	for _, step := range []struct {
		signal os.Signal
		most   time.Duration
	}{
		{syscall.SIGINT, fastStopMax},
		{syscall.SIGQUIT, crashStopMax},
		{syscall.SIGKILL, crashStopMax + fastStopMax}, // what remains is WaitDelay
	} {
		if s.signal(step.signal, step.most) {
			return nil
		}
	}
	return fmt.Errorf("PostgreSQL (process %d) does not stop: end it by hand", s.cmd.Process.Pid)
}

// crash ends the server without a checkpoint, as if it had crashed.
func (s *server) crash() error {
	if s.signal(syscall.SIGQUIT, crashStopMax) {
		return nil
	}
	return s.stop()
}

// signal sends a signal and reports whether the server ended within the timeout.
func (s *server) signal(signal os.Signal, timeout time.Duration) bool {
	if s.cmd == nil {
		return true
	}
	_ = s.cmd.Process.Signal(signal) // an error means that it has ended
	select {
	case <-s.exited:
		return true
	case <-time.After(timeout):
		return false
	}
}
