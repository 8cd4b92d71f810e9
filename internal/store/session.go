package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// Advisory locks of this program, by class. The object is the partition; replicas share one object.
const (
	lockClassReplica   = 1_886_413_921
	lockClassPartition = 1_886_413_922
	lockClassIntake    = 1_886_413_923 // Also in migration 004.
	lockClassSeq       = 1_886_413_924
	// Also in migration 005. The object is the session's process id.
	lockClassAlive = 1_886_413_925
)

const (
	// TouchEvery is how often an owner must use its session. PostgreSQL ends one that is silent for
	// idleSession, as a stopped process's is, and another replica takes over; five missed touches
	// are not an accident.
	TouchEvery  = time.Second
	idleSession = 5 * TouchEvery
	// PublishTimeout bounds what a pass asks of Kafka inside its transaction. The transaction
	// outlives it, so that an answer that comes in time can always be recorded. (A take-over, whose
	// questions are several, has a bound of its own.)
	PublishTimeout    = 8 * time.Second
	idleInTransaction = PublishTimeout + 7*time.Second
	// RecordTimeout bounds the mark and the commit of what was published; with PublishTimeout it
	// stays below idleInTransaction.
	RecordTimeout = 5 * time.Second
	// askTimeout bounds one question on a dedicated session. A database that vanished without a
	// word is noticed by it, and not by TCP, which takes a quarter of an hour.
	askTimeout = 5 * time.Second
	// closeTimeout bounds the courtesy of a closing message.
	closeTimeout = time.Second
)

// sessionSettings let PostgreSQL end a session whose owner is stopped, gone or cut off. Ending one
// is always safe: the transaction under way rolls back and its locks go to the next owner.
var sessionSettings = map[string]string{
	"application_name":     "paylatch sender",
	"idle_session_timeout": idleSession.String(),
	"statement_timeout":    "10s", // No statement of a batch takes near as long.
	"lock_timeout":         "2s",
}

// dedicated opens a connection of its own, outside the pool, with sessionSettings.
func (s *Store) dedicated(ctx context.Context) (*pgx.Conn, error) {
	return s.connect(ctx, sessionSettings)
}

// closeConn ends a dedicated session, cleanly if the server still listens. It gives the locks back
// first: the farewell itself is not waited for.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if !conn.IsClosed() && conn.PgConn().TxStatus() == 'I' {
		_, _ = conn.Exec(ctx, `select pg_advisory_unlock_all()`)
	}
	_ = conn.Close(ctx) // Either way the server releases the locks.
}

// ErrOwned says that another session owns the partition.
var ErrOwned = errors.New("the partition is owned by another session")

// Session is the ownership of one partition: a database session that holds the partition's advisory
// lock. The session is the lease; when it ends, however it ends, ownership is free at once.
// Ownership only keeps replicas out of each other's way: what makes emission exclusive is the row
// lock of a Claim. Not safe for concurrent use.
type Session struct {
	store     *Store
	conn      *pgx.Conn
	partition int32
	// Nil unless OnCreated was called.
	wake *func()
	// The version of the partition's row that the last claim left.
	row   pgtype.TID
	floor floor
}

const tryLockPartition = `select pg_try_advisory_lock($1, $2)`

// Own makes the caller the owner of partition, or returns ErrOwned.
func (s *Store) Own(ctx context.Context, partition int32) (*Session, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*askTimeout) // To connect, and to ask.
	defer cancel()
	conn, err := s.dedicated(ctx)
	if err != nil {
		return nil, err
	}
	var locked bool
	err = translate(conn.QueryRow(ctx, tryLockPartition, lockClassPartition, partition).Scan(&locked))
	if err == nil && !locked {
		err = ErrOwned
	}
	if err != nil {
		closeConn(conn)
		return nil, err
	}
	return &Session{store: s, conn: conn, partition: partition}, nil
}

// OnCreated has wake called, which must not wait, whenever this process has stored a payment of the
// partition, until Close. Other processes are not told of it meanwhile: the owner is here.
func (s *Session) OnCreated(wake func()) {
	s.wake = &wake
	s.store.waker.here.Store(s.partition, s.wake)
}

// Close gives the partition back.
func (s *Session) Close() {
	if s.wake != nil {
		s.store.waker.here.CompareAndDelete(s.partition, s.wake) // Not the next owner's.
	}
	closeConn(s.conn)
}

// Lost tells whether the session is known to have ended.
func (s *Session) Lost() bool { return s.conn.IsClosed() }

// Served by payments_unsent. No lock and no transaction id: an idle system burns none.
const selectHasUnsent = `select exists (select from payments where partition = $1 and status = 'created' and seq >= $2),
	exists (select from topic_partitions where ctid = $3 and partition::integer = $1 and generation = $4),
	coalesce(pg_sequence_last_value('payments_seq'), 0)`

// HasUnsent tells whether the partition has a payment to send. It is also the touch that keeps the
// session alive.
func (s *Session) HasUnsent(ctx context.Context) (unsent bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for holds := false; !holds; { // At most twice: a look without a floor always holds.
		var sameRow bool
		var last int64
		row := s.conn.QueryRow(ctx, selectHasUnsent, s.partition, s.floor.seq, s.row, s.floor.generation)
		if err := row.Scan(&unsent, &sameRow, &last); err != nil {
			return false, translate(err)
		}
		holds = s.floor.looked(sameRow, last)
	}
	return unsent, nil
}
