package loadtest

import (
	"fmt"
	"time"

	"github.com/paylatch/paylatch/internal/journal"
)

// Report is the result of a load. Its names are those of the package documentation.
type Report struct {
	// Version, Servers and Command name what was run. The caller of Run sets them.
	Version string   `json:"version,omitempty"`
	Servers []string `json:"servers,omitempty"`
	Command string   `json:"command,omitempty"`

	// Mode is open or closed. It is empty if the load did not begin.
	Mode string `json:"mode"`
	// Workers is set in a closed loop.
	Workers int `json:"workers,omitempty"`
	// InFlight is the bound of an open load.
	InFlight int           `json:"in_flight,omitempty"`
	Tenants  int           `json:"tenants"`
	Accounts int           `json:"accounts"`
	Began    time.Time     `json:"began"`
	Elapsed  time.Duration `json:"elapsed_ns"`
	// Interrupted reports that the load was ended before its end.
	Interrupted bool `json:"interrupted"`

	Create Work `json:"create"`
	Status Work `json:"status"`
	// EndToEnd is nil if it was not measured.
	EndToEnd *EndToEnd `json:"end_to_end,omitempty"`
	// Steps are those of an open load.
	Steps []StepReport `json:"steps,omitempty"`
	// SendDelay is how late the load generator itself was. It is part of the latencies.
	SendDelay Latency `json:"send_delay"`
	Replays   int64   `json:"replays"`
	Retries   int64   `json:"retries"`
	// UnknownKeys has the first idempotency keys of unknown outcome.
	UnknownKeys []string `json:"unknown_keys,omitempty"`
	// Errors has the first error of each outcome.
	Errors []string `json:"errors,omitempty"`

	// Verdicts are those of Judge. The caller sets them.
	Verdicts []Verdict `json:"slo,omitempty"`
	// Audit is nil if the journal was not audited. The caller sets it.
	Audit *journal.Report `json:"audit,omitempty"`
	// AuditError is why an audit could not be carried out.
	AuditError string `json:"audit_error,omitempty"`

	// Interval is the length of the intervals of Timeline.
	Interval time.Duration `json:"interval_ns"`
	Timeline []Point       `json:"timeline"`

	whole [kindCount]latencies
}

// Work is one kind of request.
type Work struct {
	Planned   int64   `json:"planned,omitempty"`
	Dropped   int64   `json:"dropped,omitempty"`
	Skipped   int64   `json:"skipped,omitempty"`
	Done      int64   `json:"done"`
	Failed    int64   `json:"failed"`
	Unknown   int64   `json:"unknown"`
	PerSecond float64 `json:"per_second"`
	// Latency is that of the requests that were done, retries and pauses included. In an open load
	// it counts from the planned time, in a closed loop from the first attempt.
	Latency Latency `json:"latency"`
	// Responses counts attempts by outcome.
	Responses map[string]int64 `json:"responses"`
	// FirstResponses counts first attempts by outcome.
	FirstResponses map[string]int64 `json:"first_responses"`
}

// StepReport is one step of an open load.
type StepReport struct {
	// Rate is the planned number of payments per second.
	Rate     float64       `json:"rate"`
	Took     time.Duration `json:"took_ns"`
	Create   Work          `json:"create"`
	Status   Work          `json:"status"`
	EndToEnd Latency       `json:"end_to_end"`
}

// describe sets what the load was.
func (r *Report) describe(l *load) {
	r.Mode, r.Workers = "closed", l.cfg.Workers
	if l.cfg.isOpen() {
		r.Mode, r.Workers, r.InFlight = "open", 0, l.cfg.InFlight
	}
	r.Began, r.Tenants, r.Accounts = l.start.UTC(), len(l.tenants), l.cfg.Accounts
	if r.Accounts == 0 {
		r.Accounts = populationDefault
	}
}

// Failure describes in one line what failed. It is empty if nothing did. It does not include
// creates of unknown outcome, verdicts and the audit.
func (r Report) Failure() string {
	var parts list
	parts.addCount(r.Create.Failed, "%d creates failed")
	parts.addCount(r.Status.Failed, "%d status requests failed")
	parts.addCount(r.dropped(), "%d requests were dropped")
	if e := r.EndToEnd; e != nil {
		parts.addCount(e.Missing, "%d payments were not visible in "+e.Topic+" within "+
			e.Waited.Round(time.Millisecond).String()+" after the load")
		if len(e.Errors) > 0 {
			parts = append(parts, "reading the topic failed: "+e.Errors[0])
		}
	}
	return parts.join(", ")
}

func (r Report) dropped() int64 { return r.Create.Dropped + r.Status.Dropped }

// setting describes in one line what the load was.
func (r Report) setting() string {
	how := fmt.Sprintf("closed loop of %d workers", r.Workers)
	if r.Mode == "open" {
		how = fmt.Sprintf("open load, at most %d requests in flight", r.InFlight)
	}
	tenants := "1 tenant"
	if r.Tenants != 1 {
		tenants = fmt.Sprintf("%d tenants", r.Tenants)
	}
	return fmt.Sprintf("%s, %s, %d accounts, %.1f s", how, tenants, r.Accounts, r.Elapsed.Seconds())
}
