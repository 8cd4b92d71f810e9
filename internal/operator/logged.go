package operator

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/internal/operatorlog"
	"github.com/paylatch/paylatch/internal/recovery"
	"github.com/paylatch/paylatch/internal/store"
)

// partitionState describes a partition in the operator's log, and what was done to it. It has no
// reasons: an operator may have written a name into one.
type partitionState struct {
	State      store.State    `json:"state"`
	TopicID    uuid.UUID      `json:"topic_id"`
	NextOffset int64          `json:"next_offset"`
	Delivery   store.Delivery `json:"delivery"`
	Tail       *tailCounts    `json:"tail,omitempty"`
	Lost       int64          `json:"sent_again,omitempty"`
	InDoubt    int            `json:"in_doubt,omitempty"`
}

// tailCounts counts what was found in the tail of the log.
type tailCounts struct {
	Marked     int `json:"marked"`
	Restored   int `json:"restored"`
	Repeated   int `json:"repeated"`
	Unexpected int `json:"unexpected"`
}

func stateOf(p store.Partition) partitionState {
	return partitionState{State: p.State, Delivery: p.Delivery, TopicID: p.TopicID, NextOffset: p.NextOffset}
}

func countsOf(r store.Recovered) *tailCounts {
	return &tailCounts{r.Marked, r.Restored, r.Repeated, r.Unexpected}
}

// end records how the work on a partition has ended, unless its commit did. It returns err.
func (op Operator) end(ctx context.Context, o *operation, err error) error {
	// A transaction that is open may be ended or not, and an error is all that is known of it.
	refused := errors.Is(err, errRefused) && !errors.Is(err, recovery.ErrOpenTransaction)
	return end(ctx, op.Store, o.logged, err, refused)
}

// end records how an operation has ended, unless its commit did. It returns err.
func end(ctx context.Context, s *store.Store, logged *store.Operation, err error, refused bool) error {
	result := operatorlog.Unknown
	switch {
	case logged == nil:
		return err
	case err == nil:
		result = operatorlog.Succeeded
	case refused:
		result = operatorlog.Failed
	}
	if endErr := s.EndOperation(ctx, logged, result); endErr != nil {
		return errors.Join(err, fmt.Errorf("the operator's log does not have its end (%s): %w", result, endErr))
	}
	return err
}
