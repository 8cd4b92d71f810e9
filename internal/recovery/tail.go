package recovery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/payment"
	"github.com/paylatch/paylatch/internal/store"
)

const (
	// StepDefault is how many offsets of the log's tail are brought into the table at once.
	StepDefault = 10_000
	// ExamplesMax bounds the sentences about unexpected records. One is enough to halt a partition.
	ExamplesMax = 3
	// stepBytesMax and stepTimeMax end a step early: its payments are all in memory, and have to be
	// recorded within the time of the recovery.
	stepBytesMax = 16 << 20
	stepTimeMax  = 3 * time.Second
)

// Tail is a step of a partition's log, from its next_offset up to the offset To.
type Tail struct {
	// Found are the payments, in the order of the log.
	Found []payment.Payment
	To    int64
	// Unexpected is the number of records that are no events of ours.
	Unexpected int
	// Examples has a sentence for each of the first ExamplesMax unexpected records.
	Examples []string

	bytes int
}

// errStepFull ends a step early.
var errStepFull = errors.New("enough for a step")

// ReadTail reads the payments in the log from a partition's next_offset up to the offset to, or
// less far, as a read_committed consumer does.
func ReadTail(ctx context.Context, log Log, p store.Partition, to int64) (Tail, error) {
	t, began := Tail{To: to}, time.Now()
	err := log.Read(ctx, p.Topic, p.Number, p.NextOffset, to, func(r kafka.Record) error {
		if t.bytes > 0 && (t.bytes+len(r.Value) > stepBytesMax || time.Since(began) > stepTimeMax) {
			t.To = r.Offset
			return errStepFull
		}
		t.bytes += len(r.Value)
		t.add(p, r)
		return nil
	})
	if errors.Is(err, errStepFull) {
		err = nil
	}
	return t, err
}

// add decodes one record.
func (t *Tail) add(p store.Partition, r kafka.Record) {
	one, err := kafka.Decode(r.Event)
	if err != nil {
		t.Unexpected++
		if t.Unexpected <= ExamplesMax {
			t.Examples = append(t.Examples, fmt.Sprintf("the record at offset %d is unexpected: %v", r.Offset, err))
		}
		return
	}
	one.Partition, one.Emission = p.Number, &payment.Emission{At: r.At, Topic: p.Topic, Offset: r.Offset}
	t.Found = append(t.Found, one)
}
