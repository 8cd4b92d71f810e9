package app

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/sleep"
	"github.com/paylatch/paylatch/internal/store"
)

const (
	// topicTimeout bounds one attempt to find the topic and what is to be known of it.
	topicTimeout = 30 * time.Second
	// topicRetry is the time between two attempts.
	topicRetry = time.Second
)

// awaitTopic waits until the database and the brokers respond, the topic exists, and the database
// role and the Kafka principal may do all that a sender ever does, also in a recovery. It logs what
// it waits for. A topic that is not fit for payments is an error; warnings are logged.
func (s *Service) awaitTopic(ctx context.Context) (string, error) {
	var wait waitLog
	for {
		topic, partitions, warnings, err := s.topic(ctx)
		if err == nil {
			warnings = append(warnings, append(topic.Warnings(), s.otherDelivery(partitions)...)...)
			for _, warning := range warnings {
				s.logger.Warn(warning)
			}
			// More partitions than the database knows are no fault: see topic.
			if faults := topic.Faults(max(len(partitions), int(topic.Partitions))); len(faults) > 0 {
				return "", fmt.Errorf("the topic is not fit for payments: %s", strings.Join(faults, "; "))
			}
			return topic.Name, nil
		}
		if ctx.Err() != nil {
			return "", nil
		}
		s.health.waitsFor(err)
		if wait.due(err.Error(), time.Now()) {
			s.logger.Warn("waiting for topic", "error", err)
		}
		_ = sleep.For(ctx, topicRetry) // The next attempt sees if ctx ended.
	}
}

// A cause that lasts is logged again after these times, doubled each time: often enough to stand
// near the end of a log, and seldom enough not to fill it.
const waitLogMin, waitLogMax = 10 * time.Second, 10 * time.Minute

// waitLog decides when to log what is waited for.
type waitLog struct {
	cause string
	again time.Time // When the same cause is logged again.
	pause time.Duration
}

// due reports whether to log the cause now: at once when it is a new one, and then at growing
// intervals.
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
func (s *Service) otherDelivery(partitions []store.Partition) []string {
	n := 0
	for _, p := range partitions {
		if p.Delivery != s.delivery() {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d of %d partitions have another delivery than this process (%s), "+
		"which leaves them to others; see `paylatch partitions mode`", n, len(partitions), s.delivery())}
}

// delivery returns how this process emits payments.
func (s *Service) delivery() store.Delivery { return store.Delivery(s.config.Sender.Delivery) }

// topic reads the topic's name and partitions from the database, and the rest from the brokers.
// Warnings are about rights.
func (s *Service) topic(ctx context.Context) (
	topic kafka.Topic, partitions []store.Partition, warnings []string, err error,
) {
	ctx, cancel := context.WithTimeout(ctx, topicTimeout)
	defer cancel()
	if err := s.store.Check(ctx, store.RoleSender); err != nil {
		return topic, nil, nil, err
	}
	partitions, err = s.store.Partitions(ctx)
	if err != nil {
		return topic, nil, nil, err
	}
	if len(partitions) == 0 {
		return topic, nil, nil, store.ErrNoTopic
	}
	warnings, err = s.tryRights(ctx, partitions[0])
	if err != nil {
		return topic, partitions, nil, err
	}
	topic, err = s.cluster.Topic(ctx, partitions[0].Topic)
	if err != nil || int(topic.Partitions) <= len(partitions) {
		return topic, partitions, warnings, err
	}
	// Partitions are being added, or the database was restored from a copy that is older than the
	// growth of the topic: then they hold payments that it does not know.
	n := int32(len(partitions))
	unknown, found, _, err := s.cluster.FirstNonEmpty(ctx, topic.Name, n)
	if err == nil && found {
		err = fmt.Errorf("partition %d of topic %s holds records, and the database knows only %d partitions, "+
			"as if it had been put back to an earlier copy: "+
			"run `paylatch partitions grow %d` before payments are taken",
			unknown, topic.Name, len(partitions), topic.Partitions)
	}
	return topic, partitions, warnings, err
}

// tryRights tries what the process may do in Kafka, with one partition for all: their transactional
// ids have one prefix.
func (s *Service) tryRights(ctx context.Context, p store.Partition) (warnings []string, err error) {
	id := p.TransactionalID
	if s.delivery() == store.DeliveryLocked {
		id = ""
	}
	return s.cluster.TryRights(ctx, p.Topic, id)
}
