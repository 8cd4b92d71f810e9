package matrix

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/paylatch/paylatch/internal/brokers"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/sender"
	"github.com/paylatch/paylatch/internal/store"
)

const (
	batch = 10
	// tailStep makes a takeover read the tail of one batch and its marker in three steps.
	tailStep = 4
	victims  = "PAYLATCH_MATRIX_VICTIM" // The environment variable of a victim with its order.
)

// order tells a victim what to do.
type order struct {
	URL, Broker, Topic string
	// Through is where its producers connect instead of the broker.
	Through string
	Point   sender.Point
	// Time is at which visit of Point it stops; 0 is the first.
	Time int
}

// victim is a process with one sender. It stops once, at the point of its order, reports that, and
// waits for resume.
type victim struct {
	*exec.Cmd
	// at is closed when it is at its point.
	at   chan struct{}
	tell io.Writer
	done chan struct{}
}

func newVictim(t *testing.T, o order) *victim {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{Cmd: exec.Command(os.Args[0]), at: make(chan struct{}), done: make(chan struct{})}
	v.Env = append(os.Environ(), victims+"="+string(text))
	v.SysProcAttr = endWithUs()
	v.Stderr = t.Output()
	out, err := v.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	v.tell, err = v.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		if bufio.NewScanner(out).Scan() {
			close(v.at)
		}
		_, _ = io.Copy(io.Discard, out)
		_ = v.Wait()
		close(v.done)
	}()
	t.Cleanup(func() {
		_ = v.Process.Kill()
		<-v.done
	})
	return v
}

func (v *victim) resume() { _, _ = io.WriteString(v.tell, "go on\n") }

// victimMain is the main function of a victim. It never returns.
func victimMain(text string) {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		panic(err)
	}
	s, closeAll, err := newSender(o.URL, o.Broker, o.Topic, func(c *sender.Config) {
		if o.Through != "" {
			c.Fencer = sender.FencerOf(kafka.NewFencer(brokers.At(o.Broker), o.Topic, store.PublishTimeout, kgo.Dialer(
				func(ctx context.Context, network, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, network, o.Through)
				})))
		}
		var times atomic.Int64
		c.At = func(_ int32, p sender.Point) {
			if p == o.Point && times.Add(1) == int64(o.Time)+1 {
				fmt.Println("at", p)
				bufio.NewScanner(os.Stdin).Scan()
			}
		}
	})
	if err != nil {
		panic(err)
	}
	defer closeAll()
	s.Run(context.Background())
}

// newSender makes a replica, as paylatch serve does.
func newSender(url, broker, topic string, configure func(*sender.Config)) (s *sender.Sender, closeAll func(),
	err error,
) {
	payments, err := store.Open(context.Background(), url, 4)
	if err != nil {
		return nil, nil, err
	}
	cluster, err := kafka.NewCluster(brokers.At(broker))
	if err != nil {
		payments.Close()
		return nil, nil, err
	}
	c := sender.Config{
		Store: payments, Delivery: store.DeliveryFenced,
		Fencer: sender.FencerOf(kafka.NewFencer(brokers.At(broker), topic, store.PublishTimeout)), Log: cluster,
		Encoder: kafka.NewEncoder("/paylatch"), BatchMax: batch, TailStep: tailStep,
		Logger:  slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics: sender.NewMetrics(prometheus.NewRegistry()),
	}
	configure(&c)
	return sender.New(c), func() { cluster.Close(); payments.Close() }, nil
}

// run runs a healthy replica in this process.
func (r *rig) run(configure func(*sender.Config)) {
	r.Helper()
	s, closeAll, err := newSender(r.url, r.broker, r.topic, func(c *sender.Config) {
		c.Logger = slog.New(slog.NewTextHandler(r.Output(), nil))
		configure(c)
	})
	if err != nil {
		r.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	r.Cleanup(func() {
		cancel()
		select {
		case <-done:
			closeAll()
		case <-time.After(patience):
			r.Error("a sender does not end")
		}
	})
}

// kill ends the victim with SIGKILL, and checks that it ended by that.
func (v *victim) kill(t *testing.T) {
	t.Helper()
	_ = v.Process.Kill()
	<-v.done
	if status := v.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
		t.Fatalf("the victim ended by itself: %s", v.ProcessState)
	}
}
