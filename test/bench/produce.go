//go:build linux

package main

import (
	"context"
	"runtime"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/paylatch/paylatch/internal/kafka"
)

// produce plays the role: franz-go alone, as fast as it can, with all records in memory.
func produce(ctx context.Context, j job, report func(any) error) error {
	ctx, cancel := context.WithTimeout(ctx, drainMax)
	defer cancel()
	var records []*kgo.Record
	if err := readAll(ctx, j.Broker, j.Source, func(r kafka.Record) error {
		records = append(records, &kgo.Record{
			Topic: j.Topic, Key: r.Key, Value: r.Value, Headers: r.Headers,
			Partition: int32(len(records) % partitions),
		})
		return nil
	}); err != nil {
		return err
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(j.Broker), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxBufferedRecords(100_000),
		kgo.DefaultProduceTopic(j.Topic))
	if err != nil {
		return err
	}
	defer client.Close()
	runtime.GC()
	watch := newStopwatch(len(records))
	refused := make(chan error, 1)
	for _, r := range records {
		client.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case refused <- err:
				default:
				}
				return
			}
			watch.one()
		})
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	select {
	case err := <-refused:
		return err
	default:
	}
	r, err := watch.result(ctx)
	if err != nil {
		return err
	}
	return report(r)
}
