package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// Classes of the advisory locks of this program. The object of the lock is the partition, unless
// stated otherwise.
const (
	lockClassReplica   = 1_886_413_921 // The object is the delivery, so all its replicas share one.
	lockClassPartition = 1_886_413_922
	lockClassGate      = 1_886_413_923 // Also in migrations 004 and 007. The object is 0.
	lockClassSeq       = 1_886_413_924
	// Also in migration 005. The object is the session's process id.
	lockClassAlive = 1_886_413_925
)

const (
	// TouchEvery is how often an owner must use its session. PostgreSQL ends a session that is idle
	// for idleSession, as that of a stopped process is, and another replica takes over. Five missed
	// touches in a row are no accident.
	TouchEvery  = time.Second
	idleSession = 5 * TouchEvery
	// PublishTimeout bounds the requests to Kafka within a batch's transaction. The transaction may
	// last longer, so that a response that arrives in time can always be recorded. A takeover makes
	// several requests and has a bound of its own.
	PublishTimeout    = 8 * time.Second
	idleInTransaction = PublishTimeout + 7*time.Second
	// RecordTimeout bounds the mark and the commit of a published batch. PublishTimeout and
	// RecordTimeout together stay below idleInTransaction.
	RecordTimeout = 5 * time.Second
	// queryTimeout bounds one query on a dedicated session. It notices a server that has vanished
	// without a TCP reset, which takes TCP a quarter of an hour.
	queryTimeout = 5 * time.Second
	// closeTimeout bounds the closing of a session.
	closeTimeout = time.Second
)

// sessionSettings make PostgreSQL end the session of an owner that is stopped, dead or cut off.
// That is always safe: the open transaction rolls back, and its locks are free for the next owner.
var sessionSettings = map[string]string{
	"application_name":     "paylatch sender",
	"idle_session_timeout": idleSession.String(),
	"statement_timeout":    "10s", // No statement of a batch takes near as long.
	"lock_timeout":         "2s",
}

// dedicated opens a connection outside the pool, with sessionSettings.
func (s *Store) dedicated(ctx context.Context) (*pgx.Conn, error) {
	return s.connect(ctx, sessionSettings)
}

// closeConn closes a dedicated session. It first releases the advisory locks, since the server may
// process the closing message later. It closes the connection even if the server does not respond.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if !conn.IsClosed() && conn.PgConn().TxStatus() == 'I' {
		_, _ = conn.Exec(ctx, `select pg_advisory_unlock_all()`)
	}
	_ = conn.Close(ctx) // The server releases the locks in any case.
}

// ErrOwned means that another session owns the partition.
var ErrOwned = errors.New("the partition is owned by another session")

// Session is the ownership of one partition: a database session that holds the partition's advisory
// lock. The session is the lease. However it ends, the partition is free at once.
//
// Ownership only avoids contention between replicas. Emission is exclusive because of the row lock
// of a Claim. Not safe for concurrent use.
type Session struct {
	store     *Store
	conn      *pgx.Conn
	partition int32
	// unsubscribe is nil unless OnCreated was called.
	unsubscribe func()
	// row is the version of the partition's row that the last commit of a claim left.
	row   pgtype.TID
	floor floor
}

const tryLockPartition = `select pg_try_advisory_lock($1, $2)`

// Own makes the caller the owner of the partition until Close, or until the session ends. It
// returns ErrOwned if another session is the owner.
func (s *Store) Own(ctx context.Context, partition int32) (*Session, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*queryTimeout) // To connect, and for the lock.
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

// OnCreated calls created whenever this process has stored a payment of the partition, until Close.
// The callback must not wait. Other processes are not notified of these payments, since the owner
// is in this one.
func (s *Session) OnCreated(created func()) {
	s.unsubscribe = s.store.notifier.Subscribe(s.partition, created)
}

// Close releases the partition.
func (s *Session) Close() {
	if s.unsubscribe != nil {
		s.unsubscribe()
	}
	closeConn(s.conn)
}

// Lost reports whether the session is known to have ended.
func (s *Session) Lost() bool { return s.conn.IsClosed() }

// selectHasUnsent is served by the index payments_unsent. It takes no lock and no transaction id,
// so an idle system uses up none.
const selectHasUnsent = `select exists (select from payments where partition = $1 and status = 'created' and seq >= $2),
	exists (select from topic_partitions where ctid = $3 and partition::integer = $1 and generation = $4),
	coalesce(pg_sequence_last_value('payments_seq'), 0)`

// HasUnsent reports whether the partition has a payment to send. It also keeps the session alive.
func (s *Session) HasUnsent(ctx context.Context) (unsent bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	for holds := false; !holds; { // At most twice: without a floor the result always holds.
		var sameRow bool
		var last int64
		row := s.conn.QueryRow(ctx, selectHasUnsent, s.partition, s.floor.seq, s.row, s.floor.generation)
		if err := row.Scan(&unsent, &sameRow, &last); err != nil {
			return false, translate(err)
		}
		holds = s.floor.checked(sameRow, last)
	}
	return unsent, nil
}
