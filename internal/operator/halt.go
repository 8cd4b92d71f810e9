package operator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/paylatch/paylatch/internal/store"
)

// Halt stops sending to a partition. Payments are taken and kept. When it returns nil, no batch is
// under way there, and none begins. The reason is for the next operator.
func Halt(ctx context.Context, s *store.Store, partition int32, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return errors.New("--reason must say why: the next operator reads it")
	}
	if err := s.Halt(ctx, partition, "by an operator: "+reason); err != nil {
		return fmt.Errorf("partition %d: %w", partition, err)
	}
	return nil
}

// Retry lets the senders try a halted partition again. It decides nothing: the partition halts
// again if its log still contradicts the database.
func Retry(ctx context.Context, s *store.Store, partition int32) error {
	if err := s.Resume(ctx, partition); err != nil {
		return fmt.Errorf("partition %d: %w", partition, err)
	}
	s.RequestRebalance(ctx)
	return nil
}

// changesMax bounds the partitions whose delivery is changed at once. Each has a database session
// and a producer, next to those of the senders. In locked delivery each waits for the time-out of a
// produce request, so a thousand partitions take seven minutes.
const changesMax = 20

// ChangeDeliveries changes how the given partitions are emitted, all if none is given, many at
// once. It calls changed for each one that had the other delivery, from several goroutines, one
// after the other.
func (op Operator) ChangeDeliveries(
	ctx context.Context, partitions []int32, to store.Delivery, changed func(partition int32, tail store.Recovered),
) error {
	if len(partitions) == 0 {
		recorded, err := op.Store.Partitions(ctx)
		if err != nil {
			return err
		}
		for _, p := range recorded {
			partitions = append(partitions, p.Number)
		}
	}
	errs := make([]error, len(partitions))
	var mu sync.Mutex // Of calls of changed.
	var changes sync.WaitGroup
	free := make(chan struct{}, changesMax)
	for i, partition := range partitions {
		free <- struct{}{}
		changes.Go(func() {
			defer func() { <-free }()
			tail, err := op.ChangeDelivery(ctx, partition, to)
			if errors.Is(err, ErrSameDelivery) {
				return
			}
			errs[i] = err
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				changed(partition, tail)
			}
		})
	}
	changes.Wait()
	return errors.Join(errs...)
}
