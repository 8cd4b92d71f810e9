package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/paylatch/paylatch/internal/payment"
)

// ErrNoTopic means that InitPartitions was never called.
var ErrNoTopic = errors.New("the topic is not set up (paylatch partitions init)")

// Conditions that an operator must change before payments can be taken.
var (
	errNoTopic     = fmt.Errorf("%w: %w", payment.ErrNoTopic, ErrNoTopic)
	errNotMigrated = fmt.Errorf("%w (paylatch migrate up)", payment.ErrNoSchema)
)

// errCorrupt marks a row that the schema's checks forbid or that this program does not know. Work
// on it stops with an error.
var errCorrupt = errors.New("impossible state in the database")

// IsCorrupt reports whether err is due to a row that violates the invariants of the schema.
// Retrying does not help.
func IsCorrupt(err error) bool { return errors.Is(err, errCorrupt) }

// operatorError is a mistake of an operator. It may be returned from within a transaction:
// translate leaves it as it is.
type operatorError string

func (e operatorError) Error() string { return string(e) }

// translate turns an error of PostgreSQL or of the connection into the kinds of package payment, by
// SQLSTATE and never by its text.
//
// An error that may pass becomes payment.ErrUnavailable. The outcome of a statement in progress is
// then unknown, and the same request made again finds it. A violated constraint is a defect of this
// program, since payment.New checks the same rules; such an error stays as it is.
func translate(err error) error {
	if err == nil || errors.Is(err, payment.ErrUnavailable) || errors.Is(err, errCorrupt) {
		return err
	}
	if _, ok := errors.AsType[operatorError](err); ok {
		return err
	}
	if _, ok := errors.AsType[pgx.ScanArgError](err); ok {
		return err
	}
	// No connection was made, for whatever reason. The password may just have changed, or the
	// database may be being restored.
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
	if errors.Is(err, context.Canceled) { // The caller has gone, and will not read the error.
		return err
	}
	// The rest are errors of the connection: refused, reset, timed out, closed in the middle.
	return fmt.Errorf("%w: %w", payment.ErrUnavailable, err)
}
