package sender

import (
	"context"
	"fmt"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

// shrunkAfter is how long an end of the log below our next offset must last to be believed: a leader that has just taken over may not know its
// high watermark yet (KIP-207).
const shrunkAfter = 5 * time.Second

// judge compares what the log is with what the database says of it; a reason is why they cannot both be true.
func judge(ctx context.Context, log Log, p store.Partition) (r kafka.Range, reason string, err error) {
	if r, err = log.Range(ctx, p.Topic, p.Number); err != nil {
		return r, "", err
	}
	if r.End < p.NextOffset && r.TopicID == p.TopicID { // Looked at twice: see shrunkAfter.
		pause(ctx, shrunkAfter)
		if r, err = log.Range(ctx, p.Topic, p.Number); err != nil {
			return r, "", err
		}
	}
	return r, contradiction(p, r), nil
}

// contradiction says what about the log cannot be if all that the database has marked is in it; empty when nothing.
func contradiction(p store.Partition, log kafka.Range) string {
	switch {
	case log.TopicID != p.TopicID:
		return fmt.Sprintf("topic %s is another one than the payments went to: its id is %s, was %s", p.Topic, log.TopicID, p.TopicID)
	case log.Start > p.NextOffset:
		return fmt.Sprintf("the log begins at offset %d, after the next offset %d: records were deleted that were never judged", log.Start, p.NextOffset)
	case log.End < p.NextOffset:
		return fmt.Sprintf("the log ends at offset %d, before the next offset %d: acknowledged records are lost", log.End, p.NextOffset)
	}
	return ""
}

// tailStep is how many offsets of the log's tail are brought into the table at once.
const tailStep = 10_000

// readTail reads the payments in the log from a partition's next_offset up to the offset to, as a read_committed consumer does. Strangers are the records that are no
// events of ours, a sentence for each.
func readTail(ctx context.Context, log Log, p store.Partition, to int64) (found []payment.Payment, strangers []string, err error) {
	err = log.Read(ctx, p.Topic, p.Number, p.NextOffset, to, func(r kafka.Record) error {
		one, err := kafka.Decode(r.Event)
		if err != nil {
			strangers = append(strangers, fmt.Sprintf("the record at offset %d is a stranger: %v", r.Offset, err))
			return nil
		}
		one.Partition, one.Sent = p.Number, &payment.Emission{At: r.At, Topic: p.Topic, Offset: r.Offset}
		found = append(found, one)
		return nil
	})
	return found, strangers, err
}
