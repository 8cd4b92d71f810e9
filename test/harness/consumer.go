package harness

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// Record is a payment in the topic, as a consumer sees it.
type Record struct {
	ID        uuid.UUID
	Partition int32
	Offset    int64
}

// InLogOrder compares records by partition and offset.
func InLogOrder(a, b Record) int {
	return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset),
		bytes.Compare(a.ID[:], b.ID[:]))
}

// lines runs a program and calls each for every line that it prints.
func lines(cmd *exec.Cmd, each func(string) error) error {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	scanner := bufio.NewScanner(out)
	var eachErr error
	for eachErr == nil && scanner.Scan() {
		eachErr = each(scanner.Text())
	}
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err != nil {
		return errors.Join(eachErr, fmt.Errorf("%s: %w: %.2000s", cmd.Args[0], err, stderr.String()))
	}
	return errors.Join(eachErr, scanner.Err())
}

// parseRecord parses what a consumer printed. The key must be a payment's id: the service writes
// no other records.
func parseRecord(partition, offset, key string) (r Record, err error) {
	p, err := strconv.ParseInt(partition, 10, 32)
	if err != nil {
		return r, err
	}
	r.Offset, err = strconv.ParseInt(offset, 10, 64)
	if err != nil {
		return r, err
	}
	r.Partition = int32(p)
	r.ID, err = uuid.Parse(key)
	return r, err
}

// Kcat reads a topic from its beginning to its end with librdkafka. Isolation is read_committed or
// read_uncommitted.
func Kcat(ctx context.Context, brokers, topic, isolation string) (all []Record, err error) {
	cmd := exec.CommandContext(ctx, "kcat", "-b", brokers, "-C", "-t", topic, "-o", "beginning", "-e", "-q",
		"-X", "isolation.level="+isolation, "-f", "%p %o %k\n")
	err = lines(cmd, func(line string) error {
		parts := strings.Fields(line)
		if len(parts) != 3 {
			return fmt.Errorf("kcat printed %.100q", line)
		}
		r, err := parseRecord(parts[0], parts[1], parts[2])
		all = append(all, r)
		return err
	})
	slices.SortFunc(all, InLogOrder)
	return all, err
}

// ConsoleConsumer reads a topic, read_committed, with Kafka's own tool inside a broker's container.
// Brokers are as that container reaches them. The tool ends when nothing came for 10 s.
func ConsoleConsumer(ctx context.Context, container, brokers, topic string) (all []Record, err error) {
	cmd := exec.CommandContext(ctx, "docker", "exec", "--env", "KAFKA_HEAP_OPTS=-Xmx256m", container,
		"/opt/kafka/bin/kafka-console-consumer.sh", "--bootstrap-server", brokers, "--topic", topic,
		"--from-beginning", "--isolation-level", "read_committed", "--timeout-ms", "10000",
		"--formatter-property", "print.partition=true", "--formatter-property", "print.offset=true",
		"--formatter-property", "print.key=true", "--formatter-property", "print.value=false")
	err = lines(cmd, func(line string) error {
		parts := strings.Fields(line)
		if len(parts) != 3 {
			return fmt.Errorf("the console consumer printed %.100q", line)
		}
		r, err := parseRecord(strings.TrimPrefix(parts[0], "Partition:"), strings.TrimPrefix(parts[1], "Offset:"),
			parts[2])
		all = append(all, r)
		return err
	})
	if err != nil && strings.Contains(err.Error(), "TimeoutException") {
		err = nil
	}
	slices.SortFunc(all, InLogOrder)
	return all, err
}
