package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/paylatch/paylatch/internal/app"
	"github.com/paylatch/paylatch/internal/cli"
	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/operator"
	"github.com/paylatch/paylatch/internal/store"
)

type partitionsCommand struct {
	Init   partitionsInitCommand   `cmd:"" help:"Create the topic if it is absent, and record its partitions in the database. Once per installation."`
	List   partitionsListCommand   `cmd:"" help:"Show how far each partition is emitted, what waits, which sender has it now (the server process of its session), and what is halted and why."`
	Halt   partitionsHaltCommand   `cmd:"" help:"Stop sending to a partition; payments are taken and kept."`
	Grow   partitionsGrowCommand   `cmd:"" help:"Add partitions to the topic, while payments are taken: creates get 503 for the moment in which all that waits is sent."`
	Mode   partitionsModeCommand   `cmd:"" help:"Change how partitions are published, while senders run; only senders of the other delivery send to them then."`
	Resume partitionsResumeCommand `cmd:"" help:"Send to a halted partition again, after you have looked why it halted (--dry-run counts what the choices do)."`
}

type partitionsInitCommand struct {
	app.DatabaseSettings
	app.KafkaSettings
	app.TopicSettings
}

// Run sets the topic up.
func (c *partitionsInitCommand) Run(ctx context.Context, out cli.Output) error {
	return app.WithClients(ctx, c.DatabaseSettings, c.KafkaSettings, func(s *store.Store, k *kafka.Cluster) error {
		topic := topicOf(c.TopicSettings)
		if err := operator.InitPartitions(ctx, s, k, topic); err != nil {
			return err
		}
		_, err := fmt.Fprintf(out.Stdout, "topic %s has %d partitions, recorded with delivery %s\n",
			topic.Name, topic.Partitions, topic.Delivery)
		return err
	})
}

type partitionsListCommand struct{ app.DatabaseSettings }

// Run lists the partitions.
func (c *partitionsListCommand) Run(ctx context.Context, out cli.Output) error {
	return app.WithStore(ctx, c.DatabaseSettings, func(s *store.Store) error {
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
		w := tabwriter.NewWriter(out.Stdout, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(w, "TOPIC\tPARTITION\tDELIVERY\tNEXT OFFSET\tUNSENT\tOLDEST\tSTATE\tOWNER\tREASON")
		for _, p := range partitions {
			b := waiting[p.Number]
			owner := "none"
			if process, ok := owners[p.Number]; ok {
				owner = fmt.Sprintf("process %d", process)
			}
			_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%d\t%s\t%s\t%s\t%s\n",
				p.Topic, p.Number, p.Delivery, p.NextOffset, b.Unsent, b.OldestAge.Round(time.Millisecond),
				p.State, owner, p.Reason)
		}
		return w.Flush()
	})
}

type partitionsHaltCommand struct {
	app.DatabaseSettings
	Partition int32  `arg:"" help:"The partition's number."`
	Reason    string `required:"" help:"Why; the next operator reads it."`
}

// Run halts a partition.
func (c *partitionsHaltCommand) Run(ctx context.Context, out cli.Output) error {
	return app.WithStore(ctx, c.DatabaseSettings, func(s *store.Store) error {
		if err := operator.Halt(ctx, s, c.Partition, c.Reason); err != nil {
			return err
		}
		_, err := fmt.Fprintf(out.Stdout, "partition %d is halted\n", c.Partition)
		return err
	})
}

type partitionsResumeCommand struct {
	app.DatabaseSettings
	app.KafkaSettings
	Partition  int32 `arg:"" help:"The partition's number."`
	Resend     bool  `xor:"choice" help:"Take the log as it is now, and send what is in doubt: payments may be in the topic twice. What is marked sent and no longer in the log is sent again, too."`
	AssumeSent bool  `xor:"choice" help:"Take the log as it is now, and take what is in doubt as sent: payments may never be in the topic."`
	InDoubt    int   `default:"-1" help:"How many of the oldest unsent payments may be in what the log lost; by default 1000, a batch, when it lost anything, and none otherwise."`
	DryRun     bool  `help:"Only count what --resend or --assume-sent would do; without either, both."`
}

// Run resumes a partition.
func (c *partitionsResumeCommand) Run(ctx context.Context, out cli.Output) error {
	if c.InDoubt > operator.InDoubtMax {
		return fmt.Errorf("--in-doubt: at most %d, the largest batch", operator.InDoubtMax)
	}
	choices := c.choices()
	if len(choices) == 0 {
		return c.retry(ctx, out)
	}
	return withOperator(ctx, c.DatabaseSettings, c.KafkaSettings, func(op operator.Operator) error {
		for _, choice := range choices {
			options := operator.ResumeOptions{Choice: choice, InDoubt: c.InDoubt, DryRun: c.DryRun}
			what := fmt.Sprintf("reading the log of partition %d", c.Partition)
			r, err := showing(ctx, out, what, func() (operator.Resumption, error) {
				return op.Resume(ctx, c.Partition, options)
			})
			if err != nil {
				return err
			}
			c.print(out, choice, r)
		}
		return nil
	})
}

// choices returns what the operator chose. A dry run without a choice counts both.
func (c *partitionsResumeCommand) choices() []operator.Choice {
	switch {
	case c.Resend:
		return []operator.Choice{operator.Resend}
	case c.AssumeSent:
		return []operator.Choice{operator.AssumeSent}
	case c.DryRun:
		return []operator.Choice{operator.Resend, operator.AssumeSent}
	}
	return nil
}

// retry lets the senders try again: nothing is decided.
func (c *partitionsResumeCommand) retry(ctx context.Context, out cli.Output) error {
	return app.WithStore(ctx, c.DatabaseSettings, func(s *store.Store) error {
		if err := operator.Retry(ctx, s, c.Partition); err != nil {
			return err
		}
		_, err := fmt.Fprintf(out.Stdout, "partition %d is active; it halts again if the log still contradicts "+
			"the database (see --resend, --assume-sent, --dry-run)\n", c.Partition)
		return err
	})
}

// print prints what was done, or would be.
func (c *partitionsResumeCommand) print(out cli.Output, choice operator.Choice, r operator.Resumption) {
	title := fmt.Sprintf("partition %d, --%s:", c.Partition, choice)
	if c.DryRun {
		title = fmt.Sprintf("partition %d, --%s would:", c.Partition, choice)
	}
	_, _ = fmt.Fprintln(out.Stdout, title)
	w := tabwriter.NewWriter(out.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(n int64, what string) { _, _ = fmt.Fprintf(w, "\t%d\t  %s\n", n, what) }
	row(int64(r.Tail.Marked), "mark as sent: found in the log")
	row(int64(r.Tail.Restored), "put back: found in the log, missing in the table")
	row(int64(r.Unexpected), "records passed over: not ours, or against the table")
	if choice == operator.Resend {
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
	app.DatabaseSettings
	app.KafkaSettings
	Delivery   string  `arg:"" enum:"locked,fenced" help:"locked or fenced."`
	Partitions []int32 `arg:"" optional:"" help:"These partitions; by default all."`
}

// Run changes how partitions are published, many at once: each may have to wait for what is under
// way.
func (c *partitionsModeCommand) Run(ctx context.Context, out cli.Output) error {
	return withOperator(ctx, c.DatabaseSettings, c.KafkaSettings, func(op operator.Operator) error {
		print := func(partition int32, tail store.Recovered) {
			_, _ = fmt.Fprintf(out.Stdout, "partition %d is %s: %d payments of the log's tail marked, %d put back, "+
				"%d records of it repeat payments\n", partition, c.Delivery, tail.Marked, tail.Restored, tail.Repeated)
		}
		return op.ChangeDeliveries(ctx, c.Partitions, store.Delivery(c.Delivery), print)
	})
}

// withOperator runs an operator's command on the partitions of the topic that is set up.
func withOperator(
	ctx context.Context, database app.DatabaseSettings, brokers app.KafkaSettings, work func(operator.Operator) error,
) error {
	access, err := brokers.KafkaAccess()
	if err != nil {
		return err
	}
	return app.WithClients(ctx, database, brokers, func(s *store.Store, cluster *kafka.Cluster) error {
		partitions, err := s.Partitions(ctx)
		if err != nil {
			return err
		}
		if len(partitions) == 0 {
			return store.ErrNoTopic
		}
		fencer := kafka.NewFencer(access, partitions[0].Topic, store.PublishTimeout)
		return work(operator.Operator{Store: s, Fencer: fencer, Log: cluster})
	})
}
