// Package doctor examines an installation. It connects to the database and to the brokers, and
// reports for each thing that the guarantees depend on whether it is there.
package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Verdict says whether a thing is there.
type Verdict string

// The verdicts. An unknown one is neither: a server does not respond, or does not let this role or
// principal look.
const (
	VerdictYes     Verdict = "yes"
	VerdictNo      Verdict = "no"
	VerdictUnknown Verdict = "unknown"
)

// Finding is the result of one check.
type Finding struct {
	// Name is stable, such as "kafka.min_insync_replicas".
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	// Detail is what was seen. It holds no secret.
	Detail string `json:"detail"`
	// Lost is what is lost without it. It is empty if the verdict is yes.
	Lost string `json:"lost,omitempty"`
	// Required is true if exactly once, or the service as a whole, needs it.
	Required bool `json:"required"`
}

// Report has the findings in the order of the checks.
type Report struct {
	Findings []Finding `json:"findings"`
	// ExactlyOnce is "yes" if all that is required is there, "no" if something is not, and
	// otherwise "unknown".
	ExactlyOnce Verdict `json:"exactly_once"`
}

// report makes a report of the findings.
func report(findings []Finding) Report {
	r := Report{Findings: findings, ExactlyOnce: VerdictYes}
	for _, f := range findings {
		switch {
		case !f.Required:
		case f.Verdict == VerdictNo:
			r.ExactlyOnce = VerdictNo
		case f.Verdict == VerdictUnknown && r.ExactlyOnce == VerdictYes:
			r.ExactlyOnce = VerdictUnknown
		}
	}
	return r
}

// WriteJSON writes the report as one JSON document.
func (r Report) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// WriteText writes a line for each finding, and below it what is lost.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%-8s %-34s %s\n", f.Verdict, f.Name, f.Detail)
		if f.Lost != "" {
			fmt.Fprintf(&b, "%8s lost: %s\n", "", f.Lost)
		}
	}
	fmt.Fprintf(&b, "%-8s %s\n", r.ExactlyOnce, "exactly once can hold")
	_, err := io.WriteString(w, b.String())
	return err
}
