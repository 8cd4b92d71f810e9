package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/paylatch/paylatch/internal/store"
)

const (
	// clockMax is how far the clocks may differ. NTP keeps them within a second. A sender warns
	// beyond a minute only.
	clockMax = 5 * time.Second
	// sessionsOfSender is how many connections a sender has next to those of its partitions.
	sessionsOfSender = 2
)

// databaseChecks returns the checks of a database. The settings of the server are read once.
func (i Installation) databaseChecks(ctx context.Context, e *store.Examination) []check {
	reading, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	server, err := e.Server(reading)
	of := func(look func() outcome) func(context.Context) outcome {
		return func(context.Context) outcome {
			if err != nil {
				return unknown(err)
			}
			return look()
		}
	}
	return slices.Concat(serverChecks(server, of), sessionChecks(e), i.useChecks(e))
}

// serverChecks are those that settings of the server answer.
func serverChecks(s store.Server, of func(func() outcome) func(context.Context) outcome) []check {
	return []check{
		{"database.version", true, "statements and settings that need PostgreSQL 15", of(func() outcome {
			return is(s.Version >= store.VersionMin, "PostgreSQL "+s.VersionText)
		})},
		{"database.primary", true, "nothing can be stored on a standby", of(func() outcome {
			return is(!s.InRecovery, fmt.Sprintf("pg_is_in_recovery() = %t", s.InRecovery))
		})},
		{"database.encoding", true, "text would be changed, so that events are not what was sent", of(func() outcome {
			return is(s.Encoding == "UTF8", s.Encoding)
		})},
		{"database.triggers_fire", true, "rows that must not change can be changed", of(func() outcome {
			return is(s.ReplicationRole == "origin", "session_replication_role = "+s.ReplicationRole)
		})},
		{"database.fsync", true, "a crash of the server loses payments and marks, or the database", of(func() outcome {
			return is(s.FSync && s.FullPageWrites, fmt.Sprintf("fsync = %t, full_page_writes = %t", s.FSync,
				s.FullPageWrites))
		})},
		{
			"database.synchronous_standby", false, "the loss of the primary loses payments with a 202",
			of(func() outcome { return standby(s) }),
		},
		{
			"database.tls", false, "names, account numbers and amounts can be read on the network",
			of(func() outcome { return encryption(s) }),
		},
		{
			"database.server_verified", false, "another server can take its place, and get the password",
			of(func() outcome { return verified(s) }),
		},
		{
			"database.clock", false, "ages and time-outs are off by the difference",
			of(func() outcome { return clock(s) }),
		},
	}
}

func standby(s store.Server) outcome {
	switch {
	case s.StandbyNames == "":
		return no("synchronous_standby_names is empty")
	case s.Synchronous < 0:
		return outcome{VerdictUnknown, "synchronous_standby_names = " + s.StandbyNames +
			"; to see the standbys the role needs pg_monitor"}
	}
	return is(s.Synchronous > 0, fmt.Sprintf("synchronous_standby_names = %s, %d streaming", s.StandbyNames,
		s.Synchronous))
}

func encryption(s store.Server) outcome {
	switch {
	case s.TLS != "":
		return yes(s.TLS)
	case s.Local:
		return yes("a local address, without TLS")
	}
	return no("no TLS")
}

func verified(s store.Server) outcome {
	switch {
	case s.Verified:
		return yes("certificate and host name")
	case s.Local:
		return yes("a local address")
	}
	return no("sslmode is below verify-full")
}

func clock(s store.Server) outcome {
	detail := fmt.Sprintf("the server is %s ahead of this machine, ± %s", s.ClockAhead.Round(time.Millisecond),
		s.ClockError.Round(time.Millisecond))
	return is(s.ClockAhead.Abs() <= clockMax+s.ClockError, detail)
}

// sessionChecks are those that take statements of their own.
func sessionChecks(e *store.Examination) []check {
	return []check{
		{
			"database.no_pooler", true, "sessions, advisory locks and notifications: several senders own a partition",
			func(ctx context.Context) outcome {
				return refusal(e.Pooled(ctx), "the connection leads to one server process")
			},
		},
		{
			"database.locks_and_sequences", true, "what keeps two senders from a partition, and the order of payments",
			func(ctx context.Context) outcome {
				return refusal(e.TryServer(ctx), "advisory locks exclude each other, numbers grow")
			},
		},
		{
			"database.schema", true, "the service does not start",
			func(ctx context.Context) outcome { return schema(ctx, e) },
		},
		{
			"database.triggers_enabled", true, "what a stored payment says can be changed",
			func(ctx context.Context) outcome {
				missing, err := e.MissingTriggers(ctx)
				return none(missing, err, "missing or disabled")
			},
		},
		{
			"database.role", false, "a stolen password lets its holder change what is stored: see `paylatch roles`",
			func(ctx context.Context) outcome {
				owner, err := e.IsOwner(ctx)
				if err != nil {
					return unknown(err)
				}
				return is(!owner, fmt.Sprintf("it owns the tables, or is a superuser: %t", owner))
			},
		},
		{
			"database.sequences_uncached", true, "the order of an account's payments",
			func(ctx context.Context) outcome {
				return refusal(e.TrySequence(ctx), "payments_seq gives one number at a time")
			},
		},
		{
			"database.sequences_ahead", false, "nothing: the service advances them when it connects, and logs it",
			func(ctx context.Context) outcome {
				behind, err := e.SequencesBehind(ctx)
				return none(behind, err, "behind its table")
			},
		},
	}
}

// useChecks are those of what the role may do, and of the partitions.
func (i Installation) useChecks(e *store.Examination) []check {
	return []check{
		{
			"database.rights", true, "what the missing privilege is needed for",
			func(ctx context.Context) outcome {
				return privileges(e.TryPrivileges(ctx, store.RoleAPI, store.RoleSender))
			},
		},
		{
			"database.connections", false, "some partitions have no sender for seconds, and requests wait",
			func(ctx context.Context) outcome { return i.connections(ctx, e) },
		},
		{
			"delivery", true, "a crash repeats a batch",
			func(ctx context.Context) outcome { return delivery(e.Partitions(ctx)) },
		},
		{
			"partitions_active", false, "payments of a halted partition wait for `paylatch partitions resume`",
			func(ctx context.Context) outcome { return active(e.Partitions(ctx)) },
		},
	}
}

// refusal returns no if the program refuses the database.
func refusal(err error, good string) outcome {
	switch {
	case err == nil:
		return yes(good)
	case store.IsRefused(err):
		return no(err.Error())
	}
	return unknown(err)
}

func schema(ctx context.Context, e *store.Examination) outcome {
	version, latest, err := e.SchemaVersion(ctx)
	switch {
	case err != nil:
		return unknown(err)
	case version == 0:
		return no("there is none: run `paylatch migrate up`")
	}
	return is(version == latest || version == latest+1, fmt.Sprintf("version %d; this program has %d", version, latest))
}

func privileges(err error) outcome {
	if missing, ok := errors.AsType[*store.MissingPrivilegesError](err); ok {
		return no(missing.Error())
	}
	if err != nil {
		return unknown(err)
	}
	return yes("all of api and sender")
}

// connections compares what all processes may need with what the role may have.
func (i Installation) connections(ctx context.Context, e *store.Examination) outcome {
	limits, err := e.ConnectionLimits(ctx)
	if err != nil {
		return unknown(err)
	}
	partitions, err := e.Partitions(ctx)
	if err != nil {
		return unknown(err)
	}
	replicas := i.Replicas
	if replicas == 0 {
		senders, err := e.Senders(ctx)
		if err != nil {
			return unknown(err)
		}
		replicas = max(senders, 1)
	}
	needed := len(partitions) + replicas*(sessionsOfSender+i.Connections)
	allowed, by := limits.Least()
	return is(needed <= allowed, fmt.Sprintf("%d for %d partitions and %d replicas; the %s allows %d", needed,
		len(partitions), replicas, by, allowed))
}

func delivery(partitions []store.Partition, err error) outcome {
	if err != nil {
		return unknown(err)
	}
	if len(partitions) == 0 {
		return no("no topic is set up: run `paylatch setup`")
	}
	locked := 0
	for _, p := range partitions {
		if p.Delivery != store.DeliveryFenced {
			locked++
		}
	}
	if locked > 0 {
		return no(fmt.Sprintf("%d of %d partitions are in locked delivery, which is at least once", locked,
			len(partitions)))
	}
	return yes(fmt.Sprintf("%d partitions, fenced", len(partitions)))
}

func active(partitions []store.Partition, err error) outcome {
	var halted []string
	for _, p := range partitions {
		if p.State != store.StateActive {
			halted = append(halted, fmt.Sprintf("%d (%s)", p.Number, p.Reason))
		}
	}
	return none(halted, err, "halted")
}
