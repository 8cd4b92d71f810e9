package doctor

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/store"
)

const (
	// replicationMin is the least replication factor with which the loss of a broker loses nothing.
	replicationMin = 2
	// minInSyncMin is the least number of replicas that must have an acknowledged record.
	minInSyncMin = 2
	// transactionVersionMin is the first transaction.version of KIP-890.
	transactionVersionMin = 2
)

// examineKafka makes the checks of the brokers, and of the topic that the partitions name.
func (i Installation) examineKafka(ctx context.Context, partitions []store.Partition) []Finding {
	findings := examine(ctx, i.brokerChecks())
	if len(partitions) == 0 {
		return append(findings, Finding{
			Name: "kafka.topic", Verdict: VerdictUnknown, Required: true, Detail: "the database names no topic",
			Lost: "payments cannot be sent",
		})
	}
	reading, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	topic, err := i.Cluster.Topic(reading, partitions[0].Topic)
	findings = append(findings, examine(ctx, topicChecks(topic, err, partitions))...)
	return append(findings, i.examineRights(ctx, partitions[0])...)
}

// brokerChecks are those of the cluster. The first one reads what the second one judges, too.
func (i Installation) brokerChecks() []check {
	var abilities kafka.Abilities
	var err error
	return []check{
		{"kafka.transactions", true, "exactly once: only locked delivery works", func(ctx context.Context) outcome {
			abilities, err = i.Cluster.Abilities(ctx)
			if err != nil {
				return unknown(err)
			}
			return is(abilities.Transactions, "Kafka "+strings.Join(abilities.Versions, ", "))
		}},
		{
			"kafka.transaction_version", false,
			"a request that is delayed beyond its transaction may be taken for one of the next (KIP-890)",
			func(context.Context) outcome {
				if err != nil {
					return unknown(err)
				}
				return is(abilities.TransactionVersion >= transactionVersionMin,
					fmt.Sprintf("transaction.version = %d", abilities.TransactionVersion))
			},
		},
		{
			"kafka.transaction_log", false,
			"the loss of a broker stops transactions, or loses how one of them was decided",
			i.transactionLog,
		},
		{
			"kafka.tls", false, "names, account numbers and amounts can be read on the network",
			func(context.Context) outcome { return is(i.KafkaTLS, i.protection()) },
		},
		{
			"kafka.authentication", false, "any client can write to the topic, unless the network keeps it away",
			func(context.Context) outcome {
				return is(i.KafkaProtection != "" && i.KafkaProtection != "TLS", i.protection())
			},
		},
	}
}

func (i Installation) protection() string {
	if i.KafkaProtection == "" {
		return "plain text, without a login"
	}
	return i.KafkaProtection
}

func (i Installation) transactionLog(ctx context.Context) outcome {
	log, err := i.Cluster.TransactionLog(ctx)
	if err != nil {
		return unknown(err)
	}
	detail := fmt.Sprintf("__transaction_state has replication factor %d, min.insync.replicas %d", log.Replication,
		log.MinInSync)
	if !log.Exists {
		detail += ", once it is created"
	}
	return is(log.Replication >= replicationMin && log.MinInSync >= minInSyncMin, detail)
}

// topicChecks are those of the topic, which was described at once.
func topicChecks(t kafka.Topic, err error, partitions []store.Partition) []check {
	of := func(look func() outcome) func(context.Context) outcome {
		return func(context.Context) outcome {
			switch {
			case errors.Is(err, kafka.ErrNoTopic):
				return no(err.Error())
			case err != nil:
				return unknown(err)
			}
			return look()
		}
	}
	return []check{
		{"kafka.topic", true, "payments cannot be sent", of(func() outcome {
			return is(t.ID == partitions[0].TopicID, fmt.Sprintf("%s has id %s; the database says %s", t.Name, t.ID,
				partitions[0].TopicID))
		})},
		{"kafka.topic_settings", true, "payments are refused by the brokers, or removed", of(func() outcome {
			faults := t.Faults(len(partitions))
			return is(len(faults) == 0, strings.Join(append(faults, fmt.Sprintf("%d partitions", t.Partitions)), "; "))
		})},
		{"kafka.replication_factor", false, "a lost broker loses payments that were sent", of(func() outcome {
			return is(t.Replication >= replicationMin, strconv.Itoa(t.Replication))
		})},
		{"kafka.min_insync_replicas", false, "an acknowledged payment may be on one broker only", of(func() outcome {
			return setting(t, "min.insync.replicas", func(v string) bool {
				n, err := strconv.Atoi(v)
				return err == nil && n >= minInSyncMin
			})
		})},
		{
			"kafka.clean_election", false,
			"a replica that lags may become leader, and payments that were sent are gone",
			of(func() outcome {
				return setting(t, "unclean.leader.election.enable", func(v string) bool { return v == "false" })
			}),
		},
		{
			"kafka.retention", false, "a copy of the database that is older than the oldest record cannot be restored",
			of(func() outcome { return retention(t) }),
		},
	}
}

// setting judges a setting of the topic. One that the brokers do not list is unknown.
func setting(t kafka.Topic, key string, good func(string) bool) outcome {
	value, listed := t.Configs[key]
	if !listed {
		return outcome{VerdictUnknown, key + " is not listed by the broker"}
	}
	return is(good(value), key+" = "+value)
}

// retention returns yes only if records are kept without limit. How old the oldest copy of the
// database may be that is restored, only the operator knows.
func retention(t kafka.Topic) outcome {
	ms, bytes := t.Configs["retention.ms"], t.Configs["retention.bytes"]
	n, err := strconv.ParseInt(ms, 10, 64)
	switch {
	case err != nil:
		return outcome{VerdictUnknown, "retention.ms is not listed by the broker"}
	case n < 0 && (bytes == "" || bytes == "-1"):
		return yes("without limit")
	}
	detail := "records are kept without limit of time"
	if n >= 0 {
		detail = "records are kept for " + (time.Duration(n) * time.Millisecond).String()
	}
	if bytes != "" && bytes != "-1" {
		detail += ", and at most " + bytes + " bytes of a partition"
	}
	return outcome{VerdictUnknown, detail + ": is that longer than the age of the oldest copy that you would restore?"}
}

// examineRights reports each missing right in a finding of its own.
func (i Installation) examineRights(ctx context.Context, p store.Partition) []Finding {
	id := p.TransactionalID
	if p.Delivery != store.DeliveryFenced {
		id = ""
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	warnings, err := i.Cluster.TryRights(ctx, p.Topic, id)
	var findings []Finding
	if missing, ok := errors.AsType[*kafka.MissingRightsError](err); ok {
		for _, r := range missing.Rights {
			findings = append(findings, Finding{
				"kafka.rights", VerdictNo, r.Operation + " on " + r.Resource, "it is needed " + r.Purpose, true,
			})
		}
		return findings
	}
	if err != nil {
		return []Finding{{
			"kafka.rights", VerdictUnknown, unknown(err).detail, "what a missing right is needed for", true,
		}}
	}
	for _, w := range warnings {
		findings = append(findings, Finding{"kafka.rights", VerdictNo, w, "see the detail", false})
	}
	if len(findings) == 0 {
		findings = append(findings, Finding{"kafka.rights", VerdictYes, "all of a sender", "", true})
	}
	return findings
}
