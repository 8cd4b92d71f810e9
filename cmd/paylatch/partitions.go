package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/store"
)

type partitionsCommand struct {
	Init   partitionsInitCommand   `cmd:"" help:"Make the topic if it is absent, and record its partitions in the database. Once per installation."`
	List   partitionsListCommand   `cmd:"" help:"Show how far each partition is emitted, what waits, and what is halted and why."`
	Halt   partitionsHaltCommand   `cmd:"" help:"Stop sending to a partition; payments are taken and kept."`
	Resume partitionsResumeCommand `cmd:"" help:"Send to a halted partition again, after you have looked why it halted."`
}

type partitionsInitCommand struct {
	databaseSettings
	kafkaSettings
	topicSettings
}

// Run sets the topic up.
func (c *partitionsInitCommand) Run(ctx context.Context, out outlet) error {
	var check checker
	topic := check.topicSettings(c.topicSettings)
	if err := check.err(); err != nil {
		return err
	}
	return withStoreAndCluster(ctx, c.databaseSettings, c.kafkaSettings, func(s *store.Store, cluster *kafka.Cluster) error {
		if err := initPartitions(ctx, s, cluster, topic); err != nil {
			return err
		}
		_, err := fmt.Fprintf(out.stdout, "topic %s has %d partitions, recorded with delivery %s\n", topic.name, topic.partitions, topic.delivery)
		return err
	})
}

// topicTimeout bounds the wait for a topic just made to be known to all brokers.
const topicTimeout = 30 * time.Second

// errHoldsRecords says that a topic is in use already.
var errHoldsRecords = errors.New("the topic holds records already: payments need a topic of their own; --from-end if these may stay")

// initPartitions makes the topic if it is absent, and records its partitions, from their present ends.
func initPartitions(ctx context.Context, s *store.Store, cluster *kafka.Cluster, topic topicConfig) error {
	if there, err := s.Partitions(ctx); err != nil {
		return err
	} else if len(there) > 0 {
		return fmt.Errorf("%w: topic %s with %d", store.ErrTopicIsSetUp, there[0].Topic, len(there))
	}
	if err := cluster.CreateTopic(ctx, topic.name, topic.partitions, topic.replication); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, topicTimeout)
	defer cancel()
	ranges, err := cluster.Ranges(ctx, topic.name)
	for ; err != nil && ctx.Err() == nil; ranges, err = cluster.Ranges(ctx, topic.name) { // A new topic has no leaders for a moment.
		time.Sleep(retryEvery / 10)
	}
	if err != nil {
		return err
	}
	described, err := cluster.Topic(ctx, topic.name)
	if err != nil {
		return err
	}
	if faults := described.Faults(int(topic.partitions)); len(faults) > 0 {
		return fmt.Errorf("the topic is not fit for payments: %s", faults)
	}
	ends := make([]int64, len(ranges))
	for i, r := range ranges {
		if ends[i] = r.End; r.End > 0 && !topic.fromEnd {
			return fmt.Errorf("topic %s, partition %d, end offset %d: %w", topic.name, i, r.End, errHoldsRecords)
		}
	}
	return s.InitPartitions(ctx, topic.name, described.ID, topic.delivery, ends)
}

type partitionsListCommand struct{ databaseSettings }

// Run lists the partitions.
func (c *partitionsListCommand) Run(ctx context.Context, out outlet) error {
	return withStore(ctx, c.databaseSettings, func(s *store.Store) error {
		partitions, err := s.Partitions(ctx)
		if err != nil {
			return err
		}
		if len(partitions) == 0 {
			return store.ErrNoTopic
		}
		backlog, err := s.Backlog(ctx)
		if err != nil {
			return err
		}
		waiting := map[int32]store.Backlog{}
		for _, b := range backlog {
			waiting[b.Partition] = b
		}
		w := tabwriter.NewWriter(out.stdout, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(w, "TOPIC\tPARTITION\tDELIVERY\tNEXT OFFSET\tUNSENT\tOLDEST\tSTATE\tREASON")
		for _, p := range partitions {
			b := waiting[p.Number]
			_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%d\t%s\t%s\t%s\n",
				p.Topic, p.Number, p.Delivery, p.NextOffset, b.Unsent, b.OldestAge.Round(time.Millisecond), p.State, p.Reason)
		}
		return w.Flush()
	})
}

type partitionsHaltCommand struct {
	databaseSettings
	Partition int32  `arg:"" help:"The partition's number."`
	Reason    string `required:"" help:"Why; the next operator reads it."`
}

// Run halts a partition.
func (c *partitionsHaltCommand) Run(ctx context.Context, out outlet) error {
	return withStore(ctx, c.databaseSettings, func(s *store.Store) error {
		if strings.TrimSpace(c.Reason) == "" {
			return errors.New("--reason must say why: the next operator reads it")
		}
		if err := s.Halt(ctx, c.Partition, "by an operator: "+c.Reason); err != nil {
			return fmt.Errorf("partition %d: %w", c.Partition, err)
		}
		_, err := fmt.Fprintf(out.stdout, "partition %d is halted\n", c.Partition)
		return err
	})
}

type partitionsResumeCommand struct {
	databaseSettings
	kafkaSettings
	Partition int32 `arg:"" help:"The partition's number."`
	TakeLog   bool  `help:"Take the log as it is now, whatever contradicted the database: this topic, from its present end. Unsent payments are sent behind it. Needs the brokers."`
}

// Run resumes a partition.
func (c *partitionsResumeCommand) Run(ctx context.Context, out outlet) error {
	if c.TakeLog {
		return withStoreAndCluster(ctx, c.databaseSettings, c.kafkaSettings, func(s *store.Store, cluster *kafka.Cluster) error {
			return c.takeLog(ctx, out, s, cluster)
		})
	}
	return withStore(ctx, c.databaseSettings, func(s *store.Store) error {
		if err := s.Resume(ctx, c.Partition); err != nil {
			return fmt.Errorf("partition %d: %w", c.Partition, err)
		}
		_, err := fmt.Fprintf(out.stdout, "partition %d is active; it halts again if the log still contradicts the database (see --take-log)\n", c.Partition)
		return err
	})
}

// takeLog resumes with the log taken as it is.
func (c *partitionsResumeCommand) takeLog(ctx context.Context, out outlet, s *store.Store, cluster *kafka.Cluster) error {
	partitions, err := s.Partitions(ctx)
	if err != nil {
		return err
	}
	if len(partitions) == 0 {
		return store.ErrNoTopic
	}
	log, err := cluster.Range(ctx, partitions[0].Topic, c.Partition)
	if err != nil {
		return err
	}
	if err := s.ResumeAt(ctx, c.Partition, log.TopicID, log.End); err != nil {
		return fmt.Errorf("partition %d: %w", c.Partition, err)
	}
	_, err = fmt.Fprintf(out.stdout, "partition %d is active, from offset %d of topic id %s on\n", c.Partition, log.End, log.TopicID)
	return err
}
