package store

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/paylatch/paylatch/internal/batch"
	"github.com/paylatch/paylatch/internal/payment"
)

// Internals for the tests. They are in another package, since test/parts, which they use, imports
// this one.
const (
	NotifyChannel      = notifyChannel
	LockClassPartition = lockClassPartition
	LockClassReplica   = lockClassReplica
	CreateBatchesMax   = batch.RunningMax
)

// The statements that the tests of plans explain.
const (
	ClaimRowSQL           = claimRow
	HasUnsentSQL          = selectHasUnsent
	MoveNextOffsetSQL     = moveNextOffset
	SelectFirstUnsentSQL  = selectFirstUnsent
	MarkRowsSQL           = markRows
	MarkFoundSQL          = markFound
	FindSQL               = findPayments
	SelectLiveKeysSQL     = selectLiveKeys
	SelectTenantIDsSQL    = selectTenantIDs
	RestorePaymentsSQL    = restorePayments
	UnmarkFromSQL         = unmarkFrom
	InsertPaymentsSQL     = insertPayments
	InsertPartiesSQL      = insertParties
	InsertAccountsSQL     = insertAccounts
	SelectPartiesSQL      = selectParties
	SelectAccountsSQL     = selectAccounts
	SelectPartiesByIDSQL  = selectPartiesByID
	SelectAccountsByIDSQL = selectAccountsByID
	SelectBacklogSQL      = selectBacklog
	SelectPlacesSQL       = selectPlaces
	InsertLoggedSQL       = insertLogged
	SelectLogNewestSQL    = selectLogNewest
	SelectLogPageSQL      = selectLogPage
	SelectLogHeadSQL      = selectLogHead
)

var ClaimPaymentsSQL = claimPayments

var (
	ErrCorrupt  = errCorrupt
	DrawNumbers = drawNumbers
)

// Conn is the session's own connection, for tests.
func (s *Session) Conn() *pgx.Conn { return s.conn }

// Floor is where the session's checks and claims begin.
func (s *Session) Floor() int64 { return s.floor.seq }

// ForceFloor moves the floor against its rules.
func (s *Session) ForceFloor(seq int64) { s.floor.seq = seq }

// Conn is the presence's own connection, for tests.
func (p *Presence) Conn() *pgx.Conn { return p.conn }

// CreateBatch stores a batch in one statement, as Create does for calls that wait together, and
// returns each payment's error.
func (s *Store) CreateBatch(ctx context.Context, batch []payment.Payment) ([]payment.Payment, []error, error) {
	created, err := s.createBatch(ctx, batch)
	stored, errs := make([]payment.Payment, len(created)), make([]error, len(created))
	for i, c := range created {
		stored[i], errs[i] = c.stored, c.err
	}
	return stored, errs, err
}

// OnConn calls do with a connection of the pool.
func (s *Store) OnConn(ctx context.Context, do func(*pgx.Conn) error) error {
	return s.pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error { return do(c.Conn()) })
}

// CreatesPending counts the creates that wait or are in a batch.
func (s *Store) CreatesPending() int { return s.creates.Pending() }

// CreateBatches counts the batches of creates so far.
func (s *Store) CreateBatches() int { return s.creates.Started() }

// ConnectionSettings is for the tests of connections.
var ConnectionSettings = connectionSettings

// Outcome names the outcome of an SQLSTATE; known is false for a class that the table does not
// have.
func Outcome(code string) (name string, known bool) {
	_, known = classOutcomes[code[:2]]
	return map[outcome]string{bug: "bug", notNow: "not now", notMigrated: "not migrated"}[outcomeOf(code)], known
}

// Connect opens a connection outside the pool, as sessions do.
func (s *Store) Connect(ctx context.Context) (*pgx.Conn, error) { return s.connect(ctx, nil) }

// CheckServer checks a server by two connections.
func CheckServer(ctx context.Context, a, b *pgx.Conn) error { return checkServer(ctx, a, b) }

// KeysPending returns how many unknown keys wait for the database.
func (s *Store) KeysPending() int { return s.keys.Pending() }

// KeyQueries returns how many queries for keys have been started.
func (s *Store) KeyQueries() int { return s.keys.Queries() }

// ConnectionsInUse returns how many connections of the pool are in use.
func (s *Store) ConnectionsInUse() int32 { return s.pool.Stat().AcquiredConns() }

// Reset makes the pool open its connections again.
func (s *Store) Reset() { s.pool.Reset() }

// Needed lists the privileges that Store.Check wants for a role.
func Needed(role Role) (privileges []string) {
	parameters := parametersOf([]Role{role})
	operations, objects, columns := parameters[0].([]string), parameters[1].([]string), parameters[2].([]string)
	for i, operation := range operations {
		if columns[i] != "" {
			operation += " (" + columns[i] + ")"
		}
		privileges = append(privileges, operation+" on "+objects[i])
	}
	return privileges
}

// Triggers are those that an Examination looks for.
var Triggers = triggers
