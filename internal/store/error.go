package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/paylatch/paylatch/internal/payment"
)

// ErrNoTopic says that InitPartitions was never called.
var ErrNoTopic = errors.New("the topic is not set up (paylatch partitions init)")

// Conditions under which payments cannot be taken until an operator mends them.
var (
	errNoTopic     = fmt.Errorf("%w: %w", payment.ErrNoTopic, ErrNoTopic)
	errNotMigrated = fmt.Errorf("%w (paylatch migrate up)", payment.ErrNoSchema)
)

// errImpossible marks a row that the schema's checks forbid or that this program does not know:
// work on it stops loudly.
var errImpossible = errors.New("impossible state in the database")

// Impossible tells whether an error comes of a row that cannot be: the same work done again meets
// it again.
func Impossible(err error) bool { return errors.Is(err, errImpossible) }

// translate turns an error of PostgreSQL or of the connection into the kinds of package payment, by
// SQLSTATE and never by its text. Whatever means "not now" becomes payment.ErrUnavailable; the
// outcome of a statement that was under way is then unknown, and the same request made again finds
// it. A constraint that fails here is a fault of ours, since payment.New checked the same rule: it
// stays as it is.
func translate(err error) error {
	if err == nil || errors.Is(err, payment.ErrUnavailable) || errors.Is(err, errImpossible) {
		return err
	}
	if _, ok := errors.AsType[pgx.ScanArgError](err); ok {
		return err
	}
	// No connection came about, for whatever reason: also a password that was just changed, or a
	// database that is being restored.
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok && !errors.Is(err, context.Canceled) {
		if refused := refusedByPooler(err); IsRefused(refused) {
			return refused
		}
		return fmt.Errorf("%w: %w", payment.ErrUnavailable, err)
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch outcomeOf(pg.Code) {
		case notMigrated:
			return fmt.Errorf("%w: %w", errNotMigrated, err)
		case notNow:
			return fmt.Errorf("%w: %w", payment.ErrUnavailable, err)
		default:
			return err
		}
	}
	if errors.Is(err, context.Canceled) { // The caller went away; nobody is left to be told.
		return err
	}
	// All that remains comes from the connection: refused, reset, timed out, closed in the middle.
	return fmt.Errorf("%w: %w", payment.ErrUnavailable, err)
}
