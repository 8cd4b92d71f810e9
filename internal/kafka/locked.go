package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

// Locked publishes with acks=all and nothing else asked of the broker. One Publish is one produce request with one answer: kafka-go's Writer
// would retry by itself and may deliver after its context ended (segmentio/kafka-go#1427), which breaks the promise of package sender. Safe for
// concurrent use.
type Locked struct {
	client    *kafkago.Client
	transport *kafkago.Transport
	topic     string
}

// NewLocked returns a publisher to topic; it connects when it is first used. The broker may take half of timeout to collect the
// acknowledgements; the other half is the network's.
func NewLocked(brokers []string, topic string, timeout time.Duration) *Locked {
	transport := &kafkago.Transport{
		ClientID:    clientID,
		DialTimeout: dialTimeout,
		// A leader that moved is found within a second; each refresh is one small request.
		MetadataTTL:    time.Second,
		MetadataTopics: []string{topic},
	}
	return &Locked{
		client:    &kafkago.Client{Addr: kafkago.TCP(brokers...), Transport: transport, Timeout: timeout},
		transport: transport,
		topic:     topic,
	}
}

// Close closes the connections; no Publish may be under way.
func (l *Locked) Close() { l.transport.CloseIdleConnections() }

// Publish appends events to a partition as one batch and returns the offset of the first. See the package for its promise.
func (l *Locked) Publish(ctx context.Context, partition int32, events []Event) (int64, error) {
	records := make([]kafkago.Record, len(events))
	at := time.Now() // When it is published: retention counts from there.
	for i, e := range events {
		records[i] = kafkago.Record{Time: at, Key: kafkago.NewBytes(e.Key), Value: kafkago.NewBytes(e.Value), Headers: headers(e)}
	}
	response, err := l.client.Produce(ctx, &kafkago.ProduceRequest{
		Topic: l.topic, Partition: int(partition), RequiredAcks: kafkago.RequireAll, Records: kafkago.NewRecordReader(records...),
	})
	if err == nil {
		err = response.Error
	}
	for _, recordErr := range responseRecordErrors(response) {
		err = errors.Join(err, recordErr)
	}
	switch {
	case err == nil:
		return response.BaseOffset, nil
	case refused(err):
		return 0, &Refused{err}
	}
	return 0, fmt.Errorf("publish to %s/%d: %w", l.topic, partition, explain(err, mayWrite(l.topic)))
}

func headers(e Event) []kafkago.Header {
	out := make([]kafkago.Header, len(e.Headers))
	for i, h := range e.Headers {
		out[i] = kafkago.Header{Key: h.Key, Value: h.Value}
	}
	return out
}

func responseRecordErrors(r *kafkago.ProduceResponse) map[int]error {
	if r == nil {
		return nil
	}
	return r.RecordErrors
}

// refused tells which answers of a broker are about the batch itself. All of them are given before anything is appended. Whatever is not
// named here may pass: an unknown outcome is never taken for a refusal.
// Source: https://kafka.apache.org/protocol#protocol_error_codes
func refused(err error) bool {
	for _, code := range []kafkago.Error{
		kafkago.MessageSizeTooLarge, kafkago.RecordListTooLarge, kafkago.InvalidMessageSize, // Larger than the topic takes.
		kafkago.InvalidRecord, kafkago.UnsupportedForMessageFormat, // The topic's rules, or a compacted topic.
		kafkago.PolicyViolation,
	} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}
