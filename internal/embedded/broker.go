package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"github.com/twmb/franz-go/pkg/kfake"
)

// BrokerConfig says where the broker keeps its log and listens.
type BrokerConfig struct {
	Dir    string       // where the log is kept across restarts; "" = in memory only
	Listen string       // loopback only: 127.0.0.1:9092; port 0 = any free one
	Log    *slog.Logger // nil = nowhere
}

// Broker is a Kafka cluster of one broker, franz-go's kfake, in this process. With a directory,
// each batch is on disk before it is acknowledged.
//
// A crash loses one thing that Kafka keeps: the end of a transaction that was open. kfake then
// counts it as aborted, but only in memory. No abort marker is written, so a later commit by the
// same producer id, after another restart, would commit the old records too. A program with
// transactions must therefore use new transactional ids after each start, as paylatch-dev does.
type Broker struct {
	cluster *kfake.Cluster
	addr    string
	lock    *os.File
	log     *brokerLog
	stop    sync.Once
	stopErr error
}

// StartBroker returns once the broker takes connections. Topics are not made by being named.
func StartBroker(c BrokerConfig) (*Broker, error) {
	listener, err := listenBroker(c.Listen)
	if err != nil {
		return nil, err
	}
	b := &Broker{addr: listener.Addr().String(), log: &brokerLog{to: c.Log}}
	options := []kfake.Opt{
		kfake.NumBrokers(1),
		// Ours is bound already. Clients get its address, so a directory may be
		// reopened on another port.
		kfake.ListenFn(func(string, string) (net.Listener, error) { return listener, nil }),
		kfake.WithLogger(b.log),
	}
	if c.Dir != "" {
		dir := filepath.Join(c.Dir, "kafka")
		b.lock, err = lockBrokerDir(c.Dir)
		if err != nil {
			return nil, errors.Join(err, listener.Close())
		}
		options = append(options, kfake.DataDir(dir), kfake.SyncWrites())
	}
	b.cluster, err = kfake.NewCluster(options...)
	if err != nil {
		_ = listener.Close() // kfake closes it only if it got that far
		return nil, errors.Join(fmt.Errorf("the broker could not start on %s: %w", c.Dir, err), b.unlock())
	}
	return b, nil
}

// listenBroker binds the address before anything else is touched. Only loopback is taken: the
// broker authenticates no client, and gives clients the very address it is bound to, so that one
// bound to all addresses could not be reached.
func listenBroker(address string) (net.Listener, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("the broker's address %q must be like 127.0.0.1:9092: %w", address, err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("the broker's port %q must be 0 to 65535: %w", text, err)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("the embedded broker listens on loopback only, not on %q: use 127.0.0.1, or a real "+
			"Kafka", host)
	}
	listener, err := listenFree(host, int(port))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, faultf(ErrPortInUse, "port %d on %s is in use: stop what uses it, or choose another port for "+
			"the broker", port, host)
	case err != nil:
		return nil, fmt.Errorf("the broker cannot listen on %s: %w", address, err)
	}
	return listener, nil
}

// lockBrokerDir keeps a second broker out, which kfake itself does not.
func lockBrokerDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the broker needs a directory that this user may write: %w", err)
	}
	lock, err := LockFile(filepath.Join(dir, "kafka.lock"))
	switch {
	case errors.Is(err, ErrLocked):
		return nil, faultf(ErrDirInUse, "another process runs a broker on %s: stop it first, or use another "+
			"directory", dir)
	case err != nil:
		return nil, fmt.Errorf("the broker needs a directory that this user may write: %w", err)
	}
	return lock, nil
}

// Addr is host:port, with the port really used.
func (b *Broker) Addr() string { return b.addr }

// Stop ends the broker and all connections to it. It returns an error if the state that is written
// only now (a broker's configuration, a clean end) could not be; records were written when they
// were acknowledged. Further calls return what the first one did.
func (b *Broker) Stop() error {
	b.stop.Do(func() {
		b.log.forget()
		b.cluster.Close()
		b.stopErr = errors.Join(b.log.lastError(), b.unlock())
	})
	return b.stopErr
}

func (b *Broker) unlock() error {
	if b.lock == nil {
		return nil
	}
	return b.lock.Close()
}

// brokerLog gives kfake's log to slog. What kfake calls info is each request, and so debug to us.
// Errors of closing are only logged by kfake; Stop finds them here.
type brokerLog struct {
	to *slog.Logger

	mu  sync.Mutex
	err error
}

func (l *brokerLog) Logf(level kfake.LogLevel, format string, args ...any) {
	if level == kfake.LogLevelError {
		l.mu.Lock()
		l.err = fmt.Errorf("broker: "+format, args...)
		l.mu.Unlock()
	}
	to := map[kfake.LogLevel]slog.Level{
		kfake.LogLevelError: slog.LevelError,
		kfake.LogLevelWarn:  slog.LevelWarn,
	}
	at, ok := to[level]
	if !ok {
		at = slog.LevelDebug
	}
	if l.to != nil && l.to.Enabled(context.Background(), at) {
		l.to.Log(context.Background(), at, "broker: "+fmt.Sprintf(format, args...))
	}
}

func (l *brokerLog) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = nil
}

func (l *brokerLog) lastError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
