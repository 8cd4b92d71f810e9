package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/store"
)

// awaitTopic waits until the database and the brokers respond, the topic exists, and the database role and the Kafka
// principal may do all that a sender ever does, also in a recovery. It logs what it waits for. A topic that does not suit payments is an
// error; warnings are logged.
func (s *service) awaitTopic(ctx context.Context) (string, error) {
	var wait waitLog
	for {
		topic, partitions, warnings, err := s.topic(ctx)
		if err == nil {
			for _, warning := range append(warnings, append(topic.Warnings(), s.otherDelivery(partitions)...)...) {
				s.logger.Warn(warning)
			}
			if faults := topic.Faults(max(len(partitions), int(topic.Partitions))); len(faults) > 0 { // More of them are no fault: see topic.
				return "", fmt.Errorf("the topic is not fit for payments: %s", strings.Join(faults, "; "))
			}
			return topic.Name, nil
		}
		if ctx.Err() != nil {
			return "", nil
		}
		if wait.due(err.Error(), time.Now()) {
			s.logger.Warn("the sender waits", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryEvery):
		}
	}
}

// A cause that lasts is logged again after these times, doubled each time: often enough to stand near the end of a log,
// and seldom enough not to fill it.
const waitLogMin, waitLogMax = 10 * time.Second, 10 * time.Minute

// waitLog decides when to log what is waited for.
type waitLog struct {
	cause string
	again time.Time // When the same cause is logged again.
	pause time.Duration
}

// due reports whether to log the cause now: at once when it is a new one, and then at growing intervals.
func (w *waitLog) due(cause string, now time.Time) bool {
	switch {
	case cause != w.cause:
		w.cause, w.pause = cause, waitLogMin
	case now.Before(w.again):
		return false
	default:
		w.pause = min(2*w.pause, waitLogMax)
	}
	w.again = now.Add(w.pause)
	return true
}

// otherDelivery warns of partitions that this process will not send to.
func (s *service) otherDelivery(partitions []store.Partition) []string {
	n := 0
	for _, p := range partitions {
		if p.Delivery != s.config.delivery {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d of %d partitions have another delivery than this process (%s), which leaves them to others; see `paylatch partitions mode`",
		n, len(partitions), s.config.delivery)}
}

// topic asks the database for the topic's name and partitions, and the brokers for the rest. Warnings are about rights.
func (s *service) topic(ctx context.Context) (topic kafka.Topic, partitions []store.Partition, warnings []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, topicTimeout)
	defer cancel()
	if partitions, err = s.store.Partitions(ctx); err != nil {
		return topic, nil, nil, err
	}
	if len(partitions) == 0 {
		return topic, nil, nil, store.ErrNoTopic
	}
	if err = s.store.TryPrivileges(ctx, store.RoleSender); err != nil {
		return topic, partitions, nil, err
	}
	if warnings, err = s.tryRights(ctx, partitions[0]); err != nil {
		return topic, partitions, nil, err
	}
	topic, err = s.cluster.Topic(ctx, partitions[0].Topic)
	if err != nil || int(topic.Partitions) <= len(partitions) {
		return topic, partitions, warnings, err
	}
	// Partitions are being added, or were added after the copy was taken that the database was put back to: then they hold payments that it does not know.
	unknown, _, err := s.cluster.Beyond(ctx, topic.Name, int32(len(partitions))) //nolint:gosec // G115: at most 1,000.
	if err == nil && unknown >= 0 {
		err = fmt.Errorf("partition %d of topic %s holds records, and the database knows only %d partitions, as if it had been put back to an earlier copy: "+
			"run `paylatch partitions grow %d` before payments are taken", unknown, topic.Name, len(partitions), topic.Partitions)
	}
	return topic, partitions, warnings, err
}

// tryRights tries what the process may do in Kafka, with one partition for all: their transactional ids have one prefix.
func (s *service) tryRights(ctx context.Context, p store.Partition) (warnings []string, err error) {
	id := p.TransactionalID
	if s.config.delivery == store.Locked {
		id = ""
	}
	return s.cluster.TryRights(ctx, p.Topic, id)
}
