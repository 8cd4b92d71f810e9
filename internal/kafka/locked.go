package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/paylatch/paylatch/internal/brokers"
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
//
// kafka-go does not log in again when a session ends (KIP-368). The broker then closes the
// connection without looking at the request, and the batch is sent again.
func NewLocked(access *brokers.Access, topic string, timeout time.Duration) *Locked {
	transport := &kafkago.Transport{
		Dial:        dialLocked(access),
		ClientID:    clientID,
		DialTimeout: dialTimeout,
		// A new leader is found within a second. Each refresh is one small request.
		MetadataTTL:    time.Second,
		MetadataTopics: []string{topic},
	}
	if m := access.SASL(); m != nil {
		transport.SASL = mechanism{m}
	}
	return &Locked{
		client:    &kafkago.Client{Addr: kafkago.TCP(access.Addresses...), Transport: transport, Timeout: timeout},
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
	err = explain(l.withCause(ctx, err), mayWrite(l.topic))
	return 0, fmt.Errorf("publish to %s/%d: %w", l.topic, partition, err)
}

// withCause adds why no metadata of the topic is known: a broker that is away, a login that it
// refuses, or a missing right. kafka-go keeps that error for metadata requests, and reports others
// as if there were no such topic or partition.
func (l *Locked) withCause(ctx context.Context, err error) error {
	if !errors.Is(err, protocol.ErrNoTopic) && !errors.Is(err, protocol.ErrNoPartition) {
		return err
	}
	response, cause := l.client.Metadata(ctx, &kafkago.MetadataRequest{Topics: []string{l.topic}})
	if cause == nil && len(response.Topics) == 1 {
		cause = response.Topics[0].Error
	}
	switch {
	case cause == nil:
		return err
	case errors.Is(cause, io.ErrUnexpectedEOF) && l.transport.SASL == nil:
		return fmt.Errorf("%w: %w; if the broker demands TLS or a login, they are PAYLATCH_KAFKA_TLS and "+
			"PAYLATCH_KAFKA_SASL_MECHANISM", err, cause)
	}
	return fmt.Errorf("%w: %w", err, cause)
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
