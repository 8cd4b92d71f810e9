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

// Presence registers a replica among those that share the partitions. It is a session that holds a
// shared advisory lock, which the other replicas find in pg_locks. It needs no table and no
// heartbeat: if a replica dies, its session ends. Not safe for concurrent use.
type Presence struct {
	conn *pgx.Conn
	// mode is the delivery. Replicas share partitions with those of the same delivery.
	mode int64
}

// deliveryNumber is the object of a delivery's lock in the class lockClassReplica.
var deliveryNumber = map[Delivery]int64{DeliveryLocked: 0, DeliveryFenced: 1}

const (
	lockReplica   = `select pg_advisory_lock_shared($1, $2)`
	lockAlive     = `select pg_advisory_lock($1, pg_backend_pid())`
	listenCreated = `listen ` + notifyChannel
)

// Register registers the caller among the replicas of its delivery, until Deregister or until the
// session ends, and listens for notifications.
func (s *Store) Register(ctx context.Context, delivery Delivery) (*Presence, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*queryTimeout) // To connect, and for the locks.
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

// Deregister ends the registration.
func (p *Presence) Deregister() { closeConn(p.conn) }

// Membership is what a replica observes of the others and of the partitions.
type Membership struct {
	// Replicas is how many are registered with the caller's delivery, including the caller.
	Replicas int
	// Rank is the caller's place among them, from 0. All that observe agree on the order. It is -1
	// if the caller's own lock is not seen.
	Rank int
	// Peer is the session of the next replica in that order, and of the first for the last one. It
	// is 0 if there is no other. See AwaitEnd.
	Peer       uint32
	Partitions []Partition
	// Owned has the partitions that some session owns.
	Owned map[int32]bool
}

const selectLocks = `select classid::bigint, objid::bigint, pid from pg_locks where locktype = 'advisory' and granted
	and objsubid = 2
	and classid::bigint in ($1, $2) and database = (select oid from pg_database where datname = current_database())`

// Observe returns which replicas are registered, which partitions are owned, and all partitions. It
// also keeps the session alive.
func (p *Presence) Observe(ctx context.Context) (Membership, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := p.conn.Query(ctx, selectLocks, lockClassReplica, lockClassPartition)
	if err != nil {
		return Membership{}, translate(err)
	}
	members := Membership{Owned: map[int32]bool{}}
	var replicas []uint32
	var class, object int64
	var pid int32
	_, err = pgx.ForEachRow(rows, []any{&class, &object, &pid}, func() error {
		switch {
		case class == lockClassPartition:
			members.Owned[int32(object)] = true
		case object == p.mode:
			replicas = append(replicas, uint32(pid))
		}
		return nil
	})
	if err != nil {
		return Membership{}, translate(err)
	}
	slices.Sort(replicas)
	members.Replicas = len(replicas)
	members.Rank = slices.Index(replicas, p.conn.PgConn().PID())
	if members.Replicas > 1 && members.Rank >= 0 {
		members.Peer = replicas[(members.Rank+1)%len(replicas)]
	}
	rows, err = p.conn.Query(ctx, selectPartitions)
	if err != nil {
		return Membership{}, translate(err)
	}
	members.Partitions, err = pgx.CollectRows(rows, scanPartition)
	return members, translate(err)
}

const (
	// awaitStep bounds one statement of AwaitEnd, and so how long its snapshot holds back vacuum.
	// It is below deadlock_timeout (1 s by default), at which PostgreSQL would look for a deadlock
	// and, with log_lock_waits, log the wait.
	awaitStep    = 900 * time.Millisecond
	setAwaitStep = `select set_config('lock_timeout', $1, false)`
	awaitEnd     = `select presence_has_ended($1)`
)

// AwaitEnd returns nil when the presence of a peer's session has ended, however it ended.
// PostgreSQL then grants its lock to us at once, which no polling can match. AwaitEnd uses a
// connection of its own, and holds no snapshot for longer than awaitStep.
func (s *Store) AwaitEnd(ctx context.Context, peer uint32) error {
	conn, err := s.dedicated(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	if _, err := conn.Exec(ctx, setAwaitStep, strconv.FormatInt(awaitStep.Milliseconds(), 10)); err != nil {
		return translate(err)
	}
	for {
		if ended, err := hasEnded(ctx, conn, peer); err != nil || ended {
			return err
		}
	}
}

// hasEnded waits once, for awaitStep at most.
func hasEnded(ctx context.Context, conn *pgx.Conn, peer uint32) (ended bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	err = conn.QueryRow(ctx, awaitEnd, int32(peer)).Scan(&ended)
	return ended, translate(err)
}

// Notification is what a notification reports. The zero value is none.
type Notification struct {
	// Created are partitions with new payments.
	Created []int32
	// Rebalance is set when a replica came, left, or released partitions.
	Rebalance bool
}

// AwaitNotification waits for a notification. When ctx ends it returns the zero value and no error.
func (p *Presence) AwaitNotification(ctx context.Context) (Notification, error) {
	n, err := p.conn.WaitForNotification(ctx)
	if err != nil {
		if timeout := net.Error(nil); ctx.Err() != nil && !p.conn.IsClosed() &&
			(errors.As(err, &timeout) || errors.Is(err, ctx.Err())) {
			return Notification{}, nil
		}
		return Notification{}, translate(err)
	}
	if n.Payload == payloadRebalance {
		return Notification{Rebalance: true}, nil
	}
	return Notification{Created: notify.Partitions(n.Payload)}, nil
}
