package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/paylatch/paylatch/test/harness"
)

// killBroker kills one broker with SIGKILL, waits until payments are emitted without it, starts it
// again, and waits until it has caught up.
func (t *test) killBroker(ctx context.Context) error {
	broker, led, coordinated, err := t.cluster.busiest(ctx)
	if err != nil {
		return err
	}
	container := t.containerOf(broker)
	if err := t.kill(ctx, container); err != nil {
		return err
	}
	began := time.Now()
	// Its partitions have other leaders then, and two replicas in sync, which is the least that
	// acks=all takes.
	what := fmt.Sprintf("two replicas in sync without broker %d", broker)
	err = t.cluster.await(ctx, what, func(p partition) bool {
		return p.leader > 0 && len(p.inSync) == 2 && !slices.Contains(p.inSync, broker)
	}, allTopics...)
	if err != nil {
		return err
	}
	shrunk := time.Since(began)
	emitted, err := t.emitting(ctx)
	if err != nil {
		return fmt.Errorf("with broker %d away: %w", broker, err)
	}
	if err := harness.Start(ctx, container); err != nil {
		return err
	}
	if err := t.cluster.await(ctx, "all replicas in sync", t.cluster.whole, allTopics...); err != nil {
		return err
	}
	t.proved("broker %d, leader of %d partitions of %s and %d of %s, was killed with -9; its partitions had other "+
		"leaders after %s, which emitted %d payments without it; it was in sync again after %s", broker, led, topic,
		coordinated,
		transactionState, round(shrunk), emitted, round(time.Since(began)))
	return nil
}

// emittingMin is how many payments must be emitted in each partition while a broker is away.
const emittingMin = 10

// emitting waits until every partition has emitted more payments, and returns how many in all.
func (t *test) emitting(ctx context.Context) (total int64, err error) {
	before, err := t.sentByPartition(ctx)
	if err != nil {
		return 0, err
	}
	const what = "payments emitted in each partition"
	err = harness.Eventually(ctx, stepMax, what, func(ctx context.Context) error {
		now, err := t.sentByPartition(ctx)
		if err != nil {
			return err
		}
		total = 0
		var behind []int32
		for p := range int32(partitions) {
			emitted := now[p] - before[p]
			total += emitted
			if emitted < emittingMin {
				behind = append(behind, p)
			}
		}
		if len(behind) > 0 {
			return fmt.Errorf("partitions %v emitted fewer than %d payments", behind, emittingMin)
		}
		return nil
	})
	return total, err
}

// busiest returns the broker that leads most partitions of the topic, and how many of the topic and
// of the transactions' log it leads. A broker that leads none of either would not be missed.
func (k *cluster) busiest(ctx context.Context) (broker int32, led, coordinated int, err error) {
	list, err := k.partitions(ctx, topic, transactionState)
	if err != nil {
		return 0, 0, 0, err
	}
	leads := map[string]map[int32]int{topic: {}, transactionState: {}}
	for _, p := range list {
		leads[p.topic][p.leader]++
	}
	for id := range int32(k.count) {
		id++
		if leads[topic][id] > led && leads[transactionState][id] > 0 {
			broker, led, coordinated = id, leads[topic][id], leads[transactionState][id]
		}
	}
	if broker == 0 {
		err = fmt.Errorf("no broker leads partitions of both %s and %s: %v", topic, transactionState, leads)
	}
	return broker, led, coordinated, err
}
