package parts

import (
	"context"
	"errors"
	"maps"
	"slices"
)

// Installed is a PostgreSQL that commits to disk and has enough memory, and a broker, for
// benchmarks.
type Installed struct {
	// Kind is docker or embedded.
	Kind string
	// Postgres is the URL of an empty database, as a superuser.
	Postgres string
	// Broker is the address of the broker.
	Broker string
	// BrokerPID is the broker's process on this machine. It is 0 if it is this process, or in
	// another namespace.
	BrokerPID int
	server    *Server
	broker    *Broker
	ends      []func() error
}

// ErrNoContainer means that a method needs PostgreSQL and Kafka in containers.
var ErrNoContainer = errors.New("this needs containers")

// LimitMemory bounds the memory of PostgreSQL's container in bytes, the page cache included, from
// now on.
func (in *Installed) LimitMemory(ctx context.Context, bytes int64) error {
	if in.server.limit == nil {
		return ErrNoContainer
	}
	return in.server.limit(ctx, bytes)
}

// PauseBroker freezes the broker, or lets it go on. Its connections stay open, and it does not
// respond.
func (in *Installed) PauseBroker(ctx context.Context, paused bool) error {
	if in.broker.pause == nil {
		return ErrNoContainer
	}
	return in.broker.pause(ctx, paused)
}

// Reconfigure restarts PostgreSQL with the given settings, at the same address and with its data.
func (in *Installed) Reconfigure(ctx context.Context, settings map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if err := execute(ctx, in.Postgres, "alter system set "+name+" = '"+settings[name]+"'"); err != nil {
			return err
		}
	}
	return in.server.restart(ctx, false)
}

// Install starts both. The program must call embedded.Main first, for the kind that needs it. Close
// also stops what a failed Install has started.
func Install(ctx context.Context) (*Installed, error) {
	kind, err := choose()
	if err != nil {
		return nil, err
	}
	in := &Installed{Kind: kind}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	server, end, err := newPostgres(ctx, kind, profileBench)
	in.endsWith(end)
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	broker, end, err := newBroker(profileBench)
	in.endsWith(end)
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	in.server, in.Postgres = server, server.URL
	in.broker, in.Broker, in.BrokerPID = broker, broker.Addr, broker.pid
	if err := in.Reconfigure(ctx, map[string]string{"shared_buffers": Buffers}); err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return in, nil
}

func (in *Installed) endsWith(end func() error) {
	if end != nil {
		in.ends = append(in.ends, end)
	}
}

// Close stops both, the last one first.
func (in *Installed) Close() error {
	var err error
	for i := len(in.ends) - 1; i >= 0; i-- {
		err = errors.Join(err, in.ends[i]())
	}
	in.ends = nil
	return err
}
