package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/paylatch/paylatch/test/harness"
)

// stage is all that a run starts.
type stage struct {
	options
	prefix   string // Of all names that the run makes in Docker.
	dir      string
	binary   string
	apiKey   string
	cluster  *cluster
	kafka    *harness.Kafka
	replicas []*replica
	watcher  *watcher
	logs     *logs
	done     []*failover // In order; the last one may have failed.

	stopWatching func()
	watched      chan struct{}
}

// setUp builds paylatch, starts the containers, makes tables, topic, tenant and roles, and starts
// the replicas.
func (s *stage) setUp(ctx context.Context) (err error) {
	s.binary, err = harness.BuildPaylatch(ctx, s.dir)
	if err != nil {
		return err
	}
	free := harness.NewPorts()
	take := func() int {
		port, err := free.Take()
		if err != nil {
			panic(err) // Thousands of ports are taken: nothing can run on this machine.
		}
		return port
	}
	s.kafka, err = harness.NewKafka(ctx, s.prefix, []harness.BrokerPorts{{Direct: take()}})
	if err != nil {
		return err
	}
	s.cluster = newCluster(s.prefix, [2]int{take(), take()})
	if err := s.cluster.start(ctx); err != nil {
		return err
	}
	s.apiKey, err = harness.SetUp(ctx, s.binary, "failover", s.direct())
	if err != nil {
		return err
	}
	for slot := range s.replicasN {
		role := fmt.Sprintf(`create role %s login password '%s' in role paylatch`, roleOf(slot), password)
		if err := s.cluster.leader().exec(ctx, role); err != nil {
			return err
		}
		r, err := s.newReplica(slot, take)
		if err != nil {
			return err
		}
		s.replicas = append(s.replicas, r)
		if err := r.Start(); err != nil {
			return err
		}
	}
	s.watch()
	return nil
}

// watch samples the sessions until close.
func (s *stage) watch() {
	ctx, stop := context.WithCancel(context.Background())
	s.watcher = &watcher{cluster: s.cluster}
	s.stopWatching, s.watched = stop, make(chan struct{})
	go func() {
		defer close(s.watched)
		s.watcher.run(ctx)
	}()
}

// settings is the environment by which paylatch reaches the database and the brokers.
func (s *stage) settings(user, hosts string) []string {
	return []string{
		fmt.Sprintf("PAYLATCH_DATABASE_URL=postgres://%s:%s@%s/paylatch"+
			"?sslmode=disable&target_session_attrs=read-write",
			user, password, hosts),
		"PAYLATCH_KAFKA_BROKERS=" + s.kafka.Brokers(), "PAYLATCH_TOPIC=" + harness.Topic,
		fmt.Sprintf("PAYLATCH_PARTITIONS=%d", partitions),
	}
}

// direct is settings past all links.
func (s *stage) direct() []string {
	nodes := s.cluster.nodes
	return s.settings("paylatch", harness.Address(nodes[0].port)+","+harness.Address(nodes[1].port))
}

// paylatch runs a command of paylatch.
func (s *stage) paylatch(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, s.binary, args...)
	cmd.Env = append(os.Environ(), s.direct()...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("paylatch %s: %w: %s", args, err, out)
	}
	return nil
}

// servers returns the base addresses of all replicas, and their numbers by host.
func (s *stage) servers() (urls []string, byHost map[string]int8) {
	byHost = map[string]int8{}
	for _, r := range s.replicas {
		urls = append(urls, "http://"+r.host())
		byHost[r.host()] = int8(r.slot)
	}
	return urls, byHost
}

// preserve keeps the journals, and the servers' logs next to the replicas', since the containers
// are removed.
func (s *stage) preserve(ctx context.Context) {
	for _, f := range s.done {
		path := filepath.Join(s.dir, fmt.Sprintf("journal-%d.csv", f.number))
		if file, err := os.Create(path); err == nil && f.load != nil {
			f.load.write(file)
			_ = file.Close()
		}
	}
	if s.cluster == nil {
		return
	}
	for _, n := range s.cluster.nodes {
		file, err := os.Create(filepath.Join(s.dir, "postgres-"+n.alias+".log"))
		if err != nil {
			return
		}
		cmd := exec.CommandContext(ctx, "docker", "logs", n.container)
		cmd.Stdout, cmd.Stderr = file, file
		_ = cmd.Run() // A container that is not there has no log.
		_ = file.Close()
	}
}

// close ends all that was started, and removes all that was made in Docker.
func (s *stage) close() error {
	if s.stopWatching != nil {
		s.stopWatching()
		<-s.watched
	}
	for _, r := range s.replicas {
		r.close()
	}
	var err error
	if s.binary != "" {
		err = os.Remove(s.binary)
	}
	return errors.Join(err, harness.RemoveAll(s.prefix))
}
