package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/paylatch/paylatch/internal/auditor"
)

// table reads all payments.
func (p *postgres) table(ctx context.Context) ([]row, error) {
	rows, err := p.pool.Query(ctx, `select id, partition::int, coalesce(kafka_offset, -1) from payments`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []row
	for rows.Next() {
		var r row
		if err := rows.Scan((*[16]byte)(&r.id), &r.partition, &r.offset); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// lines runs a program and hands on each line that it prints.
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

// parseRecord reads what a consumer printed of a record.
func parseRecord(partition, offset, key string) (r record, err error) {
	p, err := strconv.ParseInt(partition, 10, 32)
	if err != nil {
		return r, err
	}
	if r.offset, err = strconv.ParseInt(offset, 10, 64); err != nil {
		return r, err
	}
	r.partition = int32(p)
	r.id, err = uuid.Parse(key) // A record without a payment's id as its key is nothing that any payment could have made.
	return r, err
}

// kcat reads the topic with librdkafka.
func (k *kafka) kcat(ctx context.Context, isolation string) (all []record, err error) {
	cmd := exec.CommandContext(ctx, "kcat", "-b", k.brokers(), "-C", "-t", topic, "-o", "beginning", "-e", "-q",
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
	slices.SortFunc(all, inLogOrder)
	return all, err
}

// consoleConsumer reads the topic with Kafka's own tool; it ends when nothing came for a while.
func (k *kafka) consoleConsumer(ctx context.Context) (all []record, err error) {
	cmd := exec.CommandContext(ctx, "docker", "exec", "--env", "KAFKA_HEAP_OPTS=-Xmx256m", k.containers[0], "/opt/kafka/bin/kafka-console-consumer.sh",
		"--bootstrap-server", k.containers[0]+":29092", "--topic", topic, "--from-beginning", "--isolation-level", "read_committed", "--timeout-ms", "10000",
		"--formatter-property", "print.partition=true", "--formatter-property", "print.offset=true",
		"--formatter-property", "print.key=true", "--formatter-property", "print.value=false")
	err = lines(cmd, func(line string) error {
		parts := strings.Fields(line)
		if len(parts) != 3 {
			return fmt.Errorf("the console consumer printed %.100q", line)
		}
		r, err := parseRecord(strings.TrimPrefix(parts[0], "Partition:"), strings.TrimPrefix(parts[1], "Offset:"), parts[2])
		all = append(all, r)
		return err
	})
	if err != nil && strings.Contains(err.Error(), "TimeoutException") {
		err = nil
	}
	slices.SortFunc(all, inLogOrder)
	return all, err
}

// verify runs paylatch verify. Its exit code says what its report says.
func verify(ctx context.Context, binary string, env []string) (report auditor.Report, err error) {
	cmd := exec.CommandContext(ctx, binary, "verify", "--json")
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	if jsonErr := json.Unmarshal(stdout.Bytes(), &report); jsonErr != nil {
		return report, fmt.Errorf("paylatch verify: %w: %.2000s", errors.Join(err, jsonErr), stderr.String())
	}
	return report, nil
}
