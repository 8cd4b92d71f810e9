package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/internal/auditor"
	"github.com/paylatch/paylatch/test/harness"
)

// verify runs paylatch verify inside the network. What it finds is judged here.
func (t *test) verify(ctx context.Context) (auditor.Report, error) {
	out, err := t.run(ctx, currentImage, "verify", "--json")
	var report auditor.Report
	if jsonErr := json.Unmarshal([]byte(out), &report); jsonErr != nil {
		return report, errors.Join(err, jsonErr)
	}
	return report, nil
}

// counts is what a consumer read that is not ours.
type counts struct {
	name              string
	records, payments int64
}

func countPayments(name string, records []harness.Record) counts {
	ids := map[uuid.UUID]bool{}
	for _, r := range records {
		ids[r.ID] = true
	}
	return counts{name, int64(len(records)), int64(len(ids))}
}

// read reads the topic, read_committed, with Kafka's own tool and with librdkafka.
func (t *test) read(ctx context.Context) ([]counts, error) {
	console, err := harness.ConsoleConsumer(ctx, t.containerOf(1), "localhost:29092", topic)
	if err != nil {
		return nil, err
	}
	kcat, err := harness.Kcat(ctx, strings.Join(addresses(t.cluster.count), ","), topic, "read_committed")
	return []counts{countPayments("console consumer", console), countPayments("kcat", kcat)}, err
}
