package parts

import (
	"context"
	"errors"
)

// Installed is a PostgreSQL that commits on disk and has memory enough, and a broker, for a program that measures.
type Installed struct {
	Kind     string // docker or embedded.
	Postgres string // URL of an empty database, as a superuser.
	Broker   string // Address.
	ends     []func() error
}

// Install starts both. The program calls embedded.Main first of all, for the kind that needs it. Close also undoes what a failed Install began.
func Install(ctx context.Context) (*Installed, error) {
	kind, err := choose()
	if err != nil {
		return nil, err
	}
	in := &Installed{Kind: kind}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	server, end, err := newPostgres(ctx, kind, measuring)
	in.endsWith(end)
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	broker, end, err := newBroker(measuring)
	in.endsWith(end)
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	in.Postgres, in.Broker = server.URL, broker.Addr
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
