package store

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/paylatch/paylatch/internal/operatorlog"
)

// Change is what an operator has changed, for the operator's log. Its values are encoded as JSON
// objects of a bounded size. They hold no names or account numbers, no free text, and no secrets.
type Change struct {
	// Action is the command that does just this, such as "tenants create".
	Action string
	// Arguments say what was to be done.
	Arguments any
	// Before and After are the state; nil if there is none.
	Before, After any
}

// The actions of operations.
const (
	PartitionsInit   = "partitions init"
	PartitionsGrow   = "partitions grow"
	PartitionsMode   = "partitions mode"
	PartitionsResume = "partitions resume"
)

// TopicArguments describe a topic in the operator's log.
type TopicArguments struct {
	Topic      string   `json:"topic"`
	Partitions int      `json:"partitions"`
	Delivery   Delivery `json:"delivery,omitempty"`
}

// TopicState describes a topic that is set up in the operator's log.
type TopicState struct {
	TopicID    uuid.UUID `json:"topic_id"`
	Partitions int       `json:"partitions"`
}

// PartitionArguments describe what is done to a partition in the operator's log.
type PartitionArguments struct {
	Partition int32    `json:"partition"`
	Delivery  Delivery `json:"delivery,omitempty"`
	Choice    string   `json:"choice,omitempty"`
	InDoubt   *int     `json:"in_doubt,omitempty"`
	DryRun    bool     `json:"dry_run,omitempty"`
}

type partitionState struct {
	State State `json:"state"`
	// Since is when it got this state. It is absent from the state after a change, whose row has
	// the time.
	Since *time.Time `json:"since,omitempty"`
}

// errUnchanged is returned by work that has found nothing to change.
var errUnchanged error = operatorError("nothing was changed")

// changeLogged runs an operator's work in a transaction that also records it in the operator's log.
// It rolls back if work returns an error, and returns one that wraps it. On record, with its row,
// once it returns nil.
func (s *Store) changeLogged(ctx context.Context, work func(pgx.Tx) (Change, error)) error {
	var row logged
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		c, err := work(tx)
		if err == nil {
			row, err = appendLog(ctx, tx, c, operatorlog.Done, 0, "")
		}
		return err
	})
	if err == nil {
		row.announce(ctx)
	}
	return err
}

// logged is a row of the operator's log that is on record once its transaction is.
type logged struct {
	action string
	head   operatorlog.Head
}

// announce reports to the command in ctx that the row is on record.
func (r logged) announce(ctx context.Context) {
	if recorded := operatorlog.FromContext(ctx).Recorded; recorded != nil && r.head.Seq > 0 {
		recorded(r.action, r.head)
	}
}

// rowQuerier is a connection or a transaction.
type rowQuerier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// insertLogged appends a row; see operator_log_append for the columns that PostgreSQL sets. It
// locks the head of the log until the transaction ends, so it is the last statement before the
// commit.
const insertLogged = `insert into operator_log (os_user, host, version, command, action, phase, begun, result,
	arguments, before, after) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) returning seq, hash`

// appendLog appends a row to the operator's log, for the command in ctx.
func appendLog(ctx context.Context, q rowQuerier, c Change, phase operatorlog.Phase, begun int64,
	result operatorlog.Result,
) (logged, error) {
	values := [3]string{}
	for i, v := range []any{c.Arguments, c.Before, c.After} {
		text, err := json.Marshal(v)
		if err != nil {
			return logged{}, fmt.Errorf("operator's log: %s: %w", c.Action, err)
		}
		values[i] = string(text)
	}
	by := operatorlog.FromContext(ctx).Operator
	row := logged{action: c.Action}
	var hash []byte
	err := q.QueryRow(ctx, insertLogged, by.OSUser, by.Host, by.Version, by.Command, c.Action, string(phase), begun,
		string(result), values[0], values[1], values[2]).Scan(&row.head.Seq, &hash)
	copy(row.head.Hash[:], hash)
	if err != nil {
		return logged{}, fmt.Errorf("operator's log: %w", translate(err))
	}
	return row, nil
}

// Operation is an operator's work with an effect outside PostgreSQL. The operator's log has a row
// since before that effect. If the process dies, the log has no row that ends it, and its outcome
// is unknown.
type Operation struct {
	change Change
	begun  int64
	// ended is true once the row that ends it is written, whether or not that is on record.
	ended atomic.Bool
}

// BeginOperation records that an operation begins. On record once it returns nil; the effect must
// come after that.
func (s *Store) BeginOperation(ctx context.Context, c Change) (*Operation, error) {
	conn, err := s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	return beginOperation(ctx, conn.Conn(), c)
}

func beginOperation(ctx context.Context, conn *pgx.Conn, c Change) (*Operation, error) {
	var row logged
	err := confirmed(conn, func() error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) (err error) {
			row, err = appendLog(ctx, tx, c, operatorlog.Begun, 0, "")
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	row.announce(ctx)
	return &Operation{change: c, begun: row.head.Seq}, nil
}

// EndOperation records how an operation has ended that did not reach the commit of its effect in
// PostgreSQL. It does nothing if that commit was tried. If it failed, the outcome is unknown, and
// so the log has it.
func (s *Store) EndOperation(ctx context.Context, o *Operation, result operatorlog.Result) error {
	if o.ended.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), RecordTimeout)
	defer cancel()
	var row logged
	err := s.inTx(ctx, func(tx pgx.Tx) (err error) {
		row, err = o.end(ctx, tx, result, nil)
		return err
	})
	if err == nil {
		row.announce(ctx)
	}
	return err
}

// end appends the row that ends the operation, with the state after it.
func (o *Operation) end(ctx context.Context, q rowQuerier, result operatorlog.Result, after any) (logged, error) {
	c := o.change
	c.After = after
	row, err := appendLog(ctx, q, c, operatorlog.Ended, o.begun, result)
	o.ended.Store(err == nil) // From now on the commit decides.
	return row, err
}

// record appends the row of a change in its transaction: the one that ends the operation, if the
// change is part of one.
func (o *Operation) record(ctx context.Context, q rowQuerier, c Change) (logged, error) {
	if o == nil {
		return appendLog(ctx, q, c, operatorlog.Done, 0, "")
	}
	return o.end(ctx, q, operatorlog.Succeeded, c.After)
}
