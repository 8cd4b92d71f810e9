package store

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/notify"
)

// Presence makes a replica count among those that share the partitions: a session that holds a
// shared advisory lock, which the others find in pg_locks. It needs no table and no heartbeat; a
// replica that dies is gone with its session. Not safe for concurrent use.
type Presence struct {
	conn *pgx.Conn
	// Replicas share partitions with those of the same delivery.
	mode int64
}

// deliveryNumber is a delivery mode within the lock class of replicas.
var deliveryNumber = map[Delivery]int64{Locked: 0, Fenced: 1}

const (
	lockReplica   = `select pg_advisory_lock_shared($1, $2)`
	lockAlive     = `select pg_advisory_lock($1, pg_backend_pid())`
	listenCreated = `listen ` + notifyChannel
)

// Join counts the caller in among the replicas of its delivery, and listens for news.
func (s *Store) Join(ctx context.Context, delivery Delivery) (*Presence, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*queryTimeout) // To connect, and to ask.
	defer cancel()
	conn, err := s.dedicated(ctx)
	if err != nil {
		return nil, err
	}
	_, err = conn.Exec(ctx, lockReplica, lockClassReplica, deliveryNumber[delivery])
	if err == nil {
		_, err = conn.Exec(ctx, lockAlive, lockClassAlive)
	}
	if err == nil {
		_, err = conn.Exec(ctx, listenCreated)
	}
	if err != nil {
		closeConn(conn)
		return nil, translate(err)
	}
	return &Presence{conn, deliveryNumber[delivery]}, nil
}

// Leave counts the caller out.
func (p *Presence) Leave() { closeConn(p.conn) }

// View is what a replica sees of the others and of the partitions.
type View struct {
	// Those present with the caller's delivery, the caller among them.
	Replicas int
	// The caller's place among them, from 0: the same order for all that look.
	Rank int
	// The session of the next one in that order, the first after the last; 0 when there is no
	// other. See AwaitEnd.
	Neighbour  uint32
	Partitions []Partition
	// The partitions that some session owns.
	Owned map[int32]bool
}

const selectLocks = `select classid::bigint, objid::bigint, pid from pg_locks where locktype = 'advisory' and granted
	and objsubid = 2
	and classid::bigint in ($1, $2) and database = (select oid from pg_database where datname = current_database())`

// Look sees who is present, who owns what, and how the partitions stand. It is also the touch that
// keeps the session alive.
func (p *Presence) Look(ctx context.Context) (View, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := p.conn.Query(ctx, selectLocks, lockClassReplica, lockClassPartition)
	if err != nil {
		return View{}, translate(err)
	}
	view := View{Owned: map[int32]bool{}}
	var replicas []uint32
	var class, object int64
	var pid int32
	_, err = pgx.ForEachRow(rows, []any{&class, &object, &pid}, func() error {
		switch {
		case class == lockClassPartition:
			view.Owned[int32(object)] = true //nolint:gosec // G115: Own took it from an int32.
		case object == p.mode:
			replicas = append(replicas, uint32(pid)) //nolint:gosec // G115: a process id is positive.
		}
		return nil
	})
	if err != nil {
		return View{}, translate(err)
	}
	slices.Sort(replicas)
	view.Replicas = len(replicas)
	view.Rank = slices.Index(replicas, p.conn.PgConn().PID())
	if view.Replicas > 1 && view.Rank >= 0 {
		view.Neighbour = replicas[(view.Rank+1)%len(replicas)]
	}
	rows, err = p.conn.Query(ctx, selectPartitions)
	if err != nil {
		return View{}, translate(err)
	}
	view.Partitions, err = pgx.CollectRows(rows, scanPartition)
	return view, translate(err)
}

const (
	// awaitStep bounds one statement of AwaitEnd, and so how long its snapshot keeps dead rows from
	// vacuum. Below deadlock_timeout (1 s by default), at which PostgreSQL would look for a
	// deadlock and, if told to, log the wait.
	awaitStep    = 900 * time.Millisecond
	setAwaitStep = `select set_config('lock_timeout', $1, false)`
	awaitEnd     = `select presence_has_ended($1)`
)

// AwaitEnd returns nil when the presence of the given session has ended, however it did: PostgreSQL
// gives its lock to us in that moment, which no polling is as fast as. It has a connection of its
// own meanwhile, and holds no snapshot for longer than awaitStep.
func (s *Store) AwaitEnd(ctx context.Context, neighbour uint32) error {
	conn, err := s.dedicated(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	if _, err := conn.Exec(ctx, setAwaitStep, strconv.FormatInt(awaitStep.Milliseconds(), 10)); err != nil {
		return translate(err)
	}
	for {
		if ended, err := hasEnded(ctx, conn, neighbour); err != nil || ended {
			return err
		}
	}
}

func hasEnded(ctx context.Context, conn *pgx.Conn, neighbour uint32) (ended bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	err = conn.QueryRow(ctx, awaitEnd, int32(neighbour)).Scan(&ended) //nolint:gosec // G115: a process id.
	return ended, translate(err)
}

// News is what a notification tells: partitions with new payments, or that a replica came or gave
// partitions back.
type News struct {
	Created []int32
	Look    bool
}

// News waits for a notification, or until ctx ends; then there is none, and no error.
func (p *Presence) News(ctx context.Context) (News, error) {
	n, err := p.conn.WaitForNotification(ctx)
	if err != nil {
		if timeout := net.Error(nil); ctx.Err() != nil && !p.conn.IsClosed() &&
			(errors.As(err, &timeout) || errors.Is(err, ctx.Err())) {
			return News{}, nil
		}
		return News{}, translate(err)
	}
	if n.Payload == payloadRebalance {
		return News{Look: true}, nil
	}
	return News{Created: notify.Partitions(n.Payload)}, nil
}
