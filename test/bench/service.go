//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/paylatch/paylatch/internal/store"
)

// startMax bounds the start of a process.
const startMax = 30 * time.Second

// startService runs `paylatch api` or `paylatch serve` as operators do, and returns when it is
// ready.
func (b *bench) startService(ctx context.Context, command string, i *installation, more ...string) (*server, error) {
	api, err := freeAddress()
	if err != nil {
		return nil, err
	}
	admin, err := freeAddress()
	if err != nil {
		return nil, err
	}
	s := &server{address: api, admin: admin}
	s.cmd = exec.Command(b.binary, command)
	s.cmd.Env = append(append(os.Environ(),
		"PAYLATCH_DATABASE_URL="+i.URL, "PAYLATCH_KAFKA_BROKERS="+i.Broker, "PAYLATCH_LISTEN="+api,
		"PAYLATCH_ADMIN_LISTEN="+admin, "PAYLATCH_LOG_LEVEL=warn"), more...)
	s.cmd.Stderr, s.cmd.SysProcAttr = &s.stderr, endsWithUs
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	for {
		if responds(ctx, "http://"+admin+"/readyz") { // The API's own state, also when that speaks TLS.
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("paylatch %s is not ready after %s", command, startMax), s.end())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// serving starts `paylatch api` over an installation that has so many payments.
func (b *bench) serving(ctx context.Context, stored int64) (*installation, *server, error) {
	i, err := b.withStored(ctx, stored)
	if err != nil {
		return nil, nil, err
	}
	s, err := b.startService(ctx, "api", i)
	return i, s, err
}

// sending starts a service that takes and sends payments, on a new installation and a warm broker.
func (b *bench) sending(ctx context.Context) (*installation, *server, error) {
	i, err := b.install(ctx, store.DeliveryFenced)
	if err != nil {
		return nil, nil, err
	}
	if err := b.warmBroker(ctx); err != nil {
		return nil, nil, err
	}
	s, err := b.startService(ctx, "serve", i)
	return i, s, err
}

func responds(ctx context.Context, url string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}

// load has a generator of its own process put an order to a server, and adds what the server and
// PostgreSQL spent on it.
func (b *bench) load(ctx context.Context, s *server, o order) (result, error) {
	o.Address = s.address
	serverBefore, postgresBefore := treeCPU(s.pid()), treeCPU(b.postgres)
	r, err := do(ctx, "generate", job{Order: o})
	r.ServerCPU, r.PostgresCPU = treeCPU(s.pid())-serverBefore, treeCPU(b.postgres)-postgresBefore
	return r, err
}

// profileLoad repeats a load, unmeasured, and keeps the service's profiles of it.
func (b *bench) profileLoad(ctx context.Context, name string, s *server, o order) error {
	if b.profile == "" {
		return nil
	}
	const profiled = 10 * time.Second
	o.For = profiled + 2*time.Second
	loaded := make(chan error, 1)
	go func() {
		_, err := b.load(ctx, s, o)
		loaded <- err
	}()
	time.Sleep(time.Second)
	seconds := strconv.Itoa(int(profiled.Seconds()))
	cpu := b.keepProfile(ctx, name+".cpu.pprof", "http://"+s.admin+"/debug/pprof/profile?seconds="+seconds)
	return errors.Join(cpu, <-loaded, b.keepProfile(ctx, name+".allocs.pprof", "http://"+s.admin+"/debug/pprof/allocs"))
}

func (b *bench) keepProfile(ctx context.Context, name, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	f, err := os.Create(filepath.Join(b.profile, name))
	if err != nil {
		return err
	}
	_, err = io.Copy(f, response.Body)
	return errors.Join(err, f.Close())
}

// perRequest adds what a request costs, in µs of CPU: the median of the contender's runs.
func (r results) perRequest(name string, raw map[string]float64) {
	micros := func(of func(result) float64) float64 {
		return r.median(name, func(x result) float64 { return of(x) / float64(x.Done) * 1e6 })
	}
	for part, of := range map[string]func(result) float64{
		"server":   func(x result) float64 { return x.ServerCPU },
		"postgres": func(x result) float64 { return x.PostgresCPU },
		"client":   func(x result) float64 { return x.ClientCPU },
	} {
		if spent := micros(of); spent > 0 { // Not every contender has every part.
			raw[name+"_cpu_µs_"+part] = spent
		}
	}
}
