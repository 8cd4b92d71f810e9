package parts

import (
	"context"
	"errors"
	"os"

	"github.com/paylatch/paylatch/internal/embedded"
)

// newEmbeddedBroker starts kfake on a directory of its own, so that it can be stopped and started
// again.
func newEmbeddedBroker() (*Broker, func() error, error) {
	dir, err := os.MkdirTemp("", "paylatch-kafka-")
	if err != nil {
		return nil, nil, err
	}
	running, err := embedded.StartBroker(embedded.BrokerConfig{Dir: dir, Listen: "127.0.0.1:0"})
	if err != nil {
		return nil, func() error { return os.RemoveAll(dir) }, err
	}
	b := &Broker{Addr: running.Addr()}
	b.stop = func(context.Context) error {
		err := running.Stop()
		running = nil
		return err
	}
	b.start = func(context.Context) (err error) {
		running, err = embedded.StartBroker(embedded.BrokerConfig{Dir: dir, Listen: b.Addr})
		return err
	}
	kept := dir + "-kept"
	b.keep = func(ctx context.Context) error {
		return errors.Join(b.stop(ctx), os.RemoveAll(kept), os.CopyFS(kept, os.DirFS(dir)), b.start(ctx))
	}
	b.putBack = func(ctx context.Context) error {
		return errors.Join(b.stop(ctx), os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(kept)), b.start(ctx))
	}
	return b, func() error {
		var err error
		if running != nil {
			err = running.Stop()
		}
		return errors.Join(err, os.RemoveAll(dir), os.RemoveAll(kept))
	}, nil
}
