//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// ticks per second in /proc/PID/stat: USER_HZ, which Linux fixes at 100 for programs
// (proc_pid_stat(5)).
const ticks = 100

// stat is what /proc has of one process.
type stat struct {
	parent int
	cpu    float64 // Seconds, of the process and of the children it has waited for.
}

func readStat(pid int) (stat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	// The name before it may hold anything.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	const parent, utime, cstime = 1, 11, 14
	if len(fields) <= cstime {
		return stat{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	var s stat
	s.parent, err = strconv.Atoi(fields[parent])
	for _, f := range fields[utime : cstime+1] {
		n, numberErr := strconv.ParseFloat(f, 64)
		err = errors.Join(err, numberErr)
		s.cpu += n / ticks
	}
	return s, err
}

// treeCPU returns the seconds of CPU that a process and all that descends from it have used, the
// ended ones included.
func treeCPU(pid int) float64 {
	if pid == 0 {
		return 0
	}
	all := map[int]stat{}
	paths, _ := filepath.Glob("/proc/[0-9]*")
	for _, path := range paths {
		n, _ := strconv.Atoi(filepath.Base(path))
		if s, err := readStat(n); err == nil { // Others end while we look.
			all[n] = s
		}
	}
	var sum float64
	for n := range all {
		for at := n; at != 0; at = all[at].parent {
			if at == pid {
				sum += all[n].cpu
				break
			}
		}
	}
	return sum
}

// ownCPU returns the seconds of CPU that this process has used.
func ownCPU() float64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// serverProcess finds the process of the PostgreSQL behind url, in a container or not: the parent
// of the one that serves our session. 0 when it is on another machine.
func serverProcess(ctx context.Context, url string) (int, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(ctx) }()
	var port int
	var address string
	err = conn.QueryRow(ctx, `select client_port, host(client_addr) from pg_stat_activity
		where pid = pg_backend_pid()`).Scan(&port, &address)
	if err != nil {
		return 0, err
	}
	// The title of the process that serves us; no other session has our port.
	title := fmt.Sprintf(" %s(%d) ", address, port)
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(string(text), "postgres: ") ||
			!strings.Contains(string(text), title) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return 0, err
		}
		s, err := readStat(pid)
		return s.parent, err
	}
	return 0, nil
}
