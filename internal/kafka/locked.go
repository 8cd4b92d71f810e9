package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

// Locked publishes with acks=all, without transactions. It is safe for concurrent use.
//
// One Publish is one produce request. It does not use kafka-go's Writer, which retries, and may
// deliver after its context ended (segmentio/kafka-go#1427). That would break the promise of
// package sender.
type Locked struct {
	client    *kafkago.Client
	transport *kafkago.Transport
	topic     string
}

// NewLocked returns a publisher to the topic. It connects when it is first used. The broker may
// take half of timeout to collect the acknowledgements. The other half is for the network.
func NewLocked(brokers []string, topic string, timeout time.Duration) *Locked {
	transport := &kafkago.Transport{
		ClientID:    clientID,
		DialTimeout: dialTimeout,
		// A new leader is found within a second. Each refresh is one small request.
		MetadataTTL:    time.Second,
		MetadataTopics: []string{topic},
	}
	return &Locked{
		client:    &kafkago.Client{Addr: kafkago.TCP(brokers...), Transport: transport, Timeout: timeout},
		transport: transport,
		topic:     topic,
	}
}

// Close closes the connections. No Publish may be running.
func (l *Locked) Close() { l.transport.CloseIdleConnections() }

// Publish appends the events to a partition as one batch and returns the offset of the first one.
// Errors are as in the package comment.
func (l *Locked) Publish(ctx context.Context, partition int32, events []Event) (int64, error) {
	records := make([]kafkago.Record, len(events))
	at := time.Now() // Retention counts from this time.
	for i, e := range events {
		records[i] = kafkago.Record{
			Time: at, Key: kafkago.NewBytes(e.Key), Value: kafkago.NewBytes(e.Value), Headers: headers(e),
		}
	}
	response, err := l.client.Produce(ctx, &kafkago.ProduceRequest{
		Topic: l.topic, Partition: int(partition), RequiredAcks: kafkago.RequireAll,
		Records: kafkago.NewRecordReader(records...),
	})
	if err == nil {
		err = response.Error
	}
	for _, recordErr := range recordErrors(response) {
		err = errors.Join(err, recordErr)
	}
	switch {
	case err == nil:
		return response.BaseOffset, nil
	case isRefusal(err):
		return 0, &RefusedError{err}
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

func recordErrors(r *kafkago.ProduceResponse) map[int]error {
	if r == nil {
		return nil
	}
	return r.RecordErrors
}

// isRefusal reports whether a broker refused a batch because of its content. It returns all of
// these errors before it appends anything. After any other error the outcome counts as unknown.
// Source: https://kafka.apache.org/protocol#protocol_error_codes
func isRefusal(err error) bool {
	for _, code := range []kafkago.Error{
		// Larger than the topic accepts.
		kafkago.MessageSizeTooLarge, kafkago.RecordListTooLarge, kafkago.InvalidMessageSize,
		// Against the rules of the topic, or of a compacted topic.
		kafkago.InvalidRecord, kafkago.UnsupportedForMessageFormat, kafkago.PolicyViolation,
	} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}
