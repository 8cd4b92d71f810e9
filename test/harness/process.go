package harness

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// BuildPaylatch builds paylatch into dir and returns the program's path.
func BuildPaylatch(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "paylatch")
	const program = "github.com/paylatch/paylatch/cmd/paylatch"
	out, err := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", path, program).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return path, nil
}

// SetUp runs `paylatch setup` and returns the tenant's API key.
func SetUp(ctx context.Context, binary, tenant string, env []string) (key string, err error) {
	cmd := exec.CommandContext(ctx, binary, "setup", "--tenant", tenant)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("paylatch setup: %w: %s", err, out)
	}
	words := strings.Fields(string(out))
	if len(words) == 0 || !strings.HasPrefix(words[len(words)-1], "pl_") {
		return "", fmt.Errorf("paylatch setup printed no key: %s", out)
	}
	return words[len(words)-1], nil
}

// killTimeout bounds the wait for the end of a process after SIGKILL.
const killTimeout = 10 * time.Second

// Process is `paylatch serve`, which may be ended and started again. Safe for concurrent use.
type Process struct {
	Binary string
	Env    []string
	// Follow reads the log of one run to its end.
	Follow func(log io.Reader)
	// Died is called when the process ends without Signal, Stop or Kill.
	Died func(pid int, err error)

	mu     sync.Mutex
	cmd    *exec.Cmd
	ended  chan struct{} // Closed when the process has ended and its log is read.
	wanted bool          // It must not end on its own.
}

// Start starts the process. It is in a process group of its own, so that Ctrl-C does not reach it.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	cmd := exec.Command(p.Binary, "serve")
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	log, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	p.cmd, p.ended, p.wanted = cmd, ended, true
	go func() {
		defer close(ended)
		p.Follow(log)
		err := cmd.Wait()
		p.mu.Lock()
		unexpected := p.wanted && p.cmd == cmd
		p.mu.Unlock()
		if unexpected {
			p.Died(cmd.Process.Pid, err)
		}
	}()
	return nil
}

// Signal sends a signal to the process. After SIGKILL and SIGTERM its end is expected.
func (p *Process) Signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s == syscall.SIGKILL || s == syscall.SIGTERM {
		p.wanted = false
	}
	if p.cmd == nil {
		return nil
	}
	return p.cmd.Process.Signal(s)
}

// Kill sends SIGKILL and waits for the end.
func (p *Process) Kill() error {
	err := p.Signal(syscall.SIGKILL)
	p.awaitEnd(killTimeout)
	return err
}

// Stop sends SIGTERM and, if the process has not ended after timeout, SIGKILL.
func (p *Process) Stop(timeout time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if !p.awaitEnd(timeout) {
		return p.Kill()
	}
	return nil
}

// awaitEnd reports whether the process ended within d.
func (p *Process) awaitEnd(d time.Duration) bool {
	p.mu.Lock()
	ended := p.ended
	p.mu.Unlock()
	if ended == nil {
		return true
	}
	select {
	case <-ended:
		return true
	case <-time.After(d):
		return false
	}
}
