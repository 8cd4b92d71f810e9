package parts

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// Broker is a Kafka broker that can be stopped and started again, with its log, at the same
// address.
type Broker struct {
	Addr string
	// pid is its process on this machine; 0 if it is this process.
	pid int
	// pause is nil without a container.
	pause func(ctx context.Context, paused bool) error
	stop  func(context.Context) error
	start func(context.Context) error
	// keep and putBack are for a test of lost logs.
	keep    func(context.Context) error
	putBack func(context.Context) error
}

// Stop stops the broker.
func (b *Broker) Stop(t testing.TB) {
	t.Helper()
	if err := b.stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Start starts a stopped broker again.
func (b *Broker) Start(t testing.TB) {
	t.Helper()
	if err := b.start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Keep stops the broker, copies its logs, and starts it again.
func (b *Broker) Keep(t testing.TB) {
	t.Helper()
	if err := b.keep(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// PutBack kills the broker, puts the copy in place of its logs, and starts it again. All that it
// has acknowledged since Keep is gone, as after the loss of a disk.
func (b *Broker) PutBack(t testing.TB) {
	t.Helper()
	if err := b.putBack(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// shared is the broker of this process, for tests that do not stop it.
var shared = sync.OnceValues(func() (*Broker, error) {
	b, end, err := newBroker(profileTest)
	if end != nil {
		stopAtEnd(end)
	}
	return b, err
})

// Kafka returns the address of a broker that all tests of the process share. Each creates a topic
// of its own.
func Kafka(t testing.TB) string {
	t.Helper()
	kind(t)
	b, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return b.Addr
}

var topics atomic.Int64

// Topic returns a name that no other test uses.
func Topic() string { return fmt.Sprintf("payments-%d", topics.Add(1)) }

// OwnKafka starts a broker for one test, which may stop and start it.
func OwnKafka(t testing.TB) *Broker {
	t.Helper()
	kind(t)
	b, end, err := newBroker(profileTest)
	if end != nil {
		t.Cleanup(func() {
			if err := end(); err != nil {
				t.Error(err)
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newBroker(p profile) (*Broker, func() error, error) {
	k, err := choose()
	if err != nil {
		return nil, nil, err
	}
	if k == docker {
		return newDockerBroker(p)
	}
	return newEmbeddedBroker()
}
