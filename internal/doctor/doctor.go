package doctor

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/paylatch/paylatch/internal/kafka"
	"github.com/paylatch/paylatch/internal/store"
)

// checkTimeout bounds one check. What takes longer is unknown.
const checkTimeout = 10 * time.Second

// Installation is what is examined.
type Installation struct {
	// Connect connects to the database.
	Connect func(context.Context) (*store.Examination, error)
	Cluster *kafka.Cluster
	// KafkaTLS is true if clients connect to the brokers by TLS.
	KafkaTLS bool
	// KafkaProtection is that of brokers.Access.
	KafkaProtection string
	// Replicas is how many processes run the service; 0 means as many as senders are registered.
	Replicas int
	// Connections is how many pooled connections each of them has at most.
	Connections int
}

// outcome is what a check has found.
type outcome struct {
	verdict Verdict
	detail  string
}

func yes(detail string) outcome { return outcome{VerdictYes, detail} }

func no(detail string) outcome { return outcome{VerdictNo, detail} }

// unknown returns the outcome of a check that could not look.
func unknown(err error) outcome {
	detail := err.Error()
	if errors.Is(err, context.DeadlineExceeded) {
		detail = "no response within " + checkTimeout.String()
	}
	return outcome{VerdictUnknown, strings.ReplaceAll(detail, "\n", "; ")}
}

// is returns yes or no with the same detail.
func is(ok bool, detail string) outcome {
	if ok {
		return yes(detail)
	}
	return no(detail)
}

// none returns yes if nothing is listed, and no with the list otherwise.
func none(listed []string, err error, what string) outcome {
	if err != nil {
		return unknown(err)
	}
	if len(listed) > 0 {
		return no(what + ": " + strings.Join(listed, ", "))
	}
	return yes("none " + what)
}

// check is one check. lost says what is lost without the thing that it looks for.
type check struct {
	name     string
	required bool
	lost     string
	look     func(context.Context) outcome
}

// examine makes the checks one after the other.
func examine(ctx context.Context, checks []check) []Finding {
	var findings []Finding
	for _, c := range checks {
		bounded, cancel := context.WithTimeout(ctx, checkTimeout)
		o := c.look(bounded)
		cancel()
		f := Finding{Name: c.name, Verdict: o.verdict, Detail: o.detail, Required: c.required}
		if o.verdict != VerdictYes {
			f.Lost = c.lost
		}
		findings = append(findings, f)
	}
	return findings
}

// Examine makes all checks. It changes no payment, no log and no transaction. It draws a few
// numbers of a sequence. A server that is away makes its checks unknown.
func Examine(ctx context.Context, i Installation) Report {
	connecting, cancel := context.WithTimeout(ctx, checkTimeout)
	e, err := i.Connect(connecting)
	cancel()
	reached := check{
		"database.reachable", true, "nothing works",
		func(context.Context) outcome {
			if err != nil {
				return no(unknown(err).detail)
			}
			return yes("connected")
		},
	}
	if err != nil {
		findings := examine(ctx, []check{reached})
		return report(append(findings, i.examineKafka(ctx, nil)...))
	}
	defer e.Close()
	findings := examine(ctx, slices.Concat([]check{reached}, i.databaseChecks(ctx, e)))
	partitions, err := e.Partitions(ctx)
	if err != nil {
		partitions = nil // The check of the partitions has reported it.
	}
	return report(append(findings, i.examineKafka(ctx, partitions)...))
}
