package recovery

import (
	"bytes"
	"context"
	"testing"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/store"
)

// TestReadTail_Bytes: a step of a tail of large records ends before they fill the memory, at the
// first record that it did not take.
func TestReadTail_Bytes(t *testing.T) {
	got, err := ReadTail(t.Context(), heavy{}, store.Partition{NextOffset: 100}, 200)
	if err != nil || got.To != 116 || got.Unexpected != 16 ||
		len(got.Examples) != ExamplesMax || got.bytes > stepBytesMax {
		t.Errorf("got %d unexpected records of %d bytes up to offset %d, %v; want 16 up to 116",
			got.Unexpected, got.bytes, got.To, err)
	}
}

// heavy is a log of records of a MiB each, which no topic of ours accepts.
type heavy struct{ Log }

func (heavy) Read(_ context.Context, _ string, _ int32, from, to int64, each func(kafka.Record) error) error {
	mib := bytes.Repeat([]byte("x"), 1<<20)
	for at := from; at < to; at++ {
		if err := each(kafka.Record{Offset: at, Event: kafka.Event{Value: mib}}); err != nil {
			return err
		}
	}
	return nil
}
