package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/sender"
	"github.com/paylatch/paylatch/internal/store"
)

type partitionsCommand struct {
	Init   partitionsInitCommand   `cmd:"" help:"Make the topic if it is absent, and record its partitions in the database. Once per installation."`
	List   partitionsListCommand   `cmd:"" help:"Show how far each partition is emitted, what waits, which sender has it now (the server process of its session), and what is halted and why."`
	Halt   partitionsHaltCommand   `cmd:"" help:"Stop sending to a partition; payments are taken and kept."`
	Grow   partitionsGrowCommand   `cmd:"" help:"Add partitions to the topic, while payments are taken: creates are answered 503 for the moment in which all that waits is sent."`
	Mode   partitionsModeCommand   `cmd:"" help:"Change how partitions are published, while senders run; only senders of the other delivery send to them then."`
	Resume partitionsResumeCommand `cmd:"" help:"Send to a halted partition again, after you have looked why it halted (--dry-run counts what the choices do)."`
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
	ranges, err := awaitPartitions(ctx, cluster, topic.name, topic.partitions)
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

// awaitPartitions asks for the topic's ranges until it has as many partitions and all have leaders, which takes a moment after they are made. A topic with more
// is returned as it is.
func awaitPartitions(ctx context.Context, cluster *kafka.Cluster, topic string, partitions int32) ([]kafka.Range, error) {
	for {
		ranges, err := cluster.Ranges(ctx, topic)
		if err == nil && len(ranges) >= int(partitions) {
			return ranges, nil
		}
		select {
		case <-ctx.Done():
			return nil, cmp.Or(err, fmt.Errorf("topic %s has %d partitions, not %d", topic, len(ranges), partitions))
		case <-time.After(retryEvery / 10):
		}
	}
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
		owners, err := s.Owners(ctx)
		if err != nil {
			return err
		}
		waiting := map[int32]store.Backlog{}
		for _, b := range backlog {
			waiting[b.Partition] = b
		}
		w := tabwriter.NewWriter(out.stdout, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(w, "TOPIC\tPARTITION\tDELIVERY\tNEXT OFFSET\tUNSENT\tOLDEST\tSTATE\tOWNER\tREASON")
		for _, p := range partitions {
			b := waiting[p.Number]
			owner := "none"
			if process, ok := owners[p.Number]; ok {
				owner = fmt.Sprintf("process %d", process)
			}
			_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%d\t%s\t%s\t%s\t%s\n",
				p.Topic, p.Number, p.Delivery, p.NextOffset, b.Unsent, b.OldestAge.Round(time.Millisecond), p.State, owner, p.Reason)
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
	Partition  int32 `arg:"" help:"The partition's number."`
	Resend     bool  `xor:"choice" help:"Take the log as it is now, and send what is in doubt: payments may be in the topic twice. What is marked sent and no longer in the log is sent again, too."`
	AssumeSent bool  `xor:"choice" help:"Take the log as it is now, and take what is in doubt as sent: payments may never be in the topic."`
	InDoubt    int   `default:"-1" help:"How many of the oldest unsent payments may be in what the log lost; by default 1000, a batch, when it lost anything, and none otherwise."`
	DryRun     bool  `help:"Only count what --resend or --assume-sent would do; without either, both."`
}

// Run resumes a partition.
func (c *partitionsResumeCommand) Run(ctx context.Context, out outlet) error {
	choices := map[bool][]sender.Choice{c.Resend: {sender.Resend}, c.AssumeSent: {sender.AssumeSent}}[true]
	if c.InDoubt > 10*sender.BatchMaxDefault {
		return fmt.Errorf("--in-doubt: at most %d, the largest batch", 10*sender.BatchMaxDefault)
	}
	if choices == nil && c.DryRun {
		choices = []sender.Choice{sender.Resend, sender.AssumeSent}
	}
	if choices == nil {
		return c.resume(ctx, out)
	}
	return withOperator(ctx, c.databaseSettings, c.kafkaSettings, func(op sender.Operator) error {
		for _, choice := range choices {
			r, err := op.Resume(ctx, c.Partition, choice, c.InDoubt, c.DryRun)
			if err != nil {
				return err
			}
			c.tell(out, choice, r)
		}
		return nil
	})
}

// resume lets the sender look again: nothing of the log is taken for granted.
func (c *partitionsResumeCommand) resume(ctx context.Context, out outlet) error {
	return withStore(ctx, c.databaseSettings, func(s *store.Store) error {
		if err := s.Resume(ctx, c.Partition); err != nil {
			return fmt.Errorf("partition %d: %w", c.Partition, err)
		}
		s.AskToLook(ctx)
		_, err := fmt.Fprintf(out.stdout, "partition %d is active; it halts again if the log still contradicts the database (see --resend, --assume-sent, --dry-run)\n", c.Partition)
		return err
	})
}

// tell says what was done, or would be.
func (c *partitionsResumeCommand) tell(out outlet, choice sender.Choice, r sender.Resumption) {
	title := fmt.Sprintf("partition %d, --%s:", c.Partition, choice)
	if c.DryRun {
		title = fmt.Sprintf("partition %d, --%s would:", c.Partition, choice)
	}
	_, _ = fmt.Fprintln(out.stdout, title)
	w := tabwriter.NewWriter(out.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(n int64, what string) { _, _ = fmt.Fprintf(w, "\t%d\t  %s\n", n, what) }
	row(int64(r.Tail.Marked), "mark as sent: found in the log")
	row(int64(r.Tail.Restored), "put back: found in the log, missing in the table")
	row(int64(r.Strangers), "records passed over: not ours, or against the table")
	if choice == sender.Resend {
		row(r.Lost, "send again: marked sent at offsets that the log no longer has")
		row(int64(r.InDoubt), "send, though they may be in what the log lost")
	} else {
		row(int64(r.InDoubt), "mark as sent, though they may never have been in the log")
	}
	row(r.Unsent+r.Lost, "payments to be sent from then on")
	row(r.NextAt, "the offset from which the log is ours")
	_ = w.Flush()
}

type partitionsModeCommand struct {
	databaseSettings
	kafkaSettings
	Delivery   string  `arg:"" enum:"locked,fenced" help:"locked or fenced."`
	Partitions []int32 `arg:"" optional:"" help:"These partitions; by default all."`
}

// changesMax bounds the partitions whose delivery is changed at once: each has a database session and a producer meanwhile, beside those of the senders. In locked delivery each waits a produce
// deadline: a thousand partitions take seven minutes.
const changesMax = 20

// Run changes how partitions are published, many at once: each may have to wait for what is under way.
func (c *partitionsModeCommand) Run(ctx context.Context, out outlet) error {
	return withOperator(ctx, c.databaseSettings, c.kafkaSettings, func(op sender.Operator) error {
		if len(c.Partitions) == 0 {
			all, err := op.Store.Partitions(ctx)
			if err != nil {
				return err
			}
			for _, p := range all {
				c.Partitions = append(c.Partitions, p.Number)
			}
		}
		errs := make([]error, len(c.Partitions))
		var changes sync.WaitGroup
		free := make(chan struct{}, changesMax)
		for i, partition := range c.Partitions {
			free <- struct{}{}
			changes.Go(func() {
				defer func() { <-free }()
				tail, err := op.ChangeDelivery(ctx, partition, store.Delivery(c.Delivery))
				if errors.Is(err, sender.ErrSameDelivery) {
					return
				}
				if errs[i] = err; err == nil {
					_, _ = fmt.Fprintf(out.stdout, "partition %d is %s: %d payments of the log's tail marked, %d put back, %d records of it repeat payments\n",
						partition, c.Delivery, tail.Marked, tail.Restored, tail.Repeated)
				}
			})
		}
		changes.Wait()
		return errors.Join(errs...)
	})
}

// withOperator runs an operator's command on the partitions of the topic that is set up.
func withOperator(ctx context.Context, d databaseSettings, k kafkaSettings, work func(sender.Operator) error) error {
	return withStoreAndCluster(ctx, d, k, func(s *store.Store, cluster *kafka.Cluster) error {
		partitions, err := s.Partitions(ctx)
		if err != nil {
			return err
		}
		if len(partitions) == 0 {
			return store.ErrNoTopic
		}
		var check checker
		fencer := kafka.NewFencer(check.brokers(k.KafkaBrokers), partitions[0].Topic, store.PublishTimeout)
		return work(sender.Operator{Store: s, Fencer: sender.FencerOf(fencer), Log: cluster})
	})
}
