package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/paylatch/paylatch/test/harness"
)

// preserve saves what helps to find out why a run failed, since the containers are removed. It
// leaves out what it cannot read: the failure itself is reported anyway.
func (s *stage) preserve() {
	ctx, cancel := context.WithTimeout(background, time.Minute)
	defer cancel()
	_ = os.Remove(s.binary)
	s.save("plan.txt", func(w *os.File) error {
		for _, f := range plan(s.seed, s.duration, s.brokers) {
			_, _ = fmt.Fprintf(w, "%+v\n", f)
		}
		return nil
	})
	if s.client != nil {
		s.save("journal.csv", func(w *os.File) error {
			_, _ = fmt.Fprintln(w, "request,payment,account,sent_ns,received_ns")
			s.client.mu.Lock()
			defer s.client.mu.Unlock()
			for n, e := range s.client.journal {
				_, _ = fmt.Fprintf(w, "%s,%s,%d,%d,%d\n", s.client.key(n), e.id, e.account, e.sent, e.received)
			}
			return nil
		})
	}
	if s.postgres != nil {
		s.record(ctx, "postgres.log", "logs", s.postgres.container)
		s.record(ctx, "partitions.txt", "exec", s.postgres.container, "psql", "-U", "paylatch", "-c",
			"select * from topic_partitions order by partition")
	}
	if s.kafka == nil {
		return
	}
	for i, container := range s.kafka.Containers {
		s.record(ctx, fmt.Sprintf("kafka-%d.log", i+1), "logs", container)
		s.record(ctx, fmt.Sprintf("kafka-%d-partitions.txt", i+1), "exec", container, "sh", "-c",
			"for d in /tmp/kafka/"+harness.Topic+"-*; do echo $d; /opt/kafka/bin/kafka-dump-log.sh "+
				"--files $(ls $d/*.log | tail -1) | grep baseOffset | tail -40; done")
	}
}

// save writes a file into the run's directory.
func (s *stage) save(name string, write func(*os.File) error) {
	if file, err := os.Create(filepath.Join(s.dir, name)); err == nil {
		_ = write(file)
		_ = file.Close()
	}
}

// record saves the output of a docker command.
func (s *stage) record(ctx context.Context, name string, args ...string) {
	s.save(name, func(w *os.File) error {
		cmd := exec.CommandContext(ctx, "docker", args...)
		cmd.Stdout, cmd.Stderr = w, w
		return cmd.Run()
	})
}
