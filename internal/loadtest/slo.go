package loadtest

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Objective is a latency that a load must not exceed: an SLO.
type Objective struct {
	kinds []kind
	// percentile is 100 for the maximum.
	percentile float64
	// name is the objective as it was written, such as create.p99.
	name  string
	limit time.Duration
}

// objectivePercentiles are those that a report has.
var objectivePercentiles = map[string]float64{
	"p50": 50, "p90": 90, "p95": 95, "p99": 99, "p99.9": 99.9, "max": 100,
}

// ParseObjective parses p99=50ms (for create and status), create.p99=50ms, status.p95=5ms, or
// end_to_end.p99=200ms.
func ParseObjective(text string) (Objective, error) {
	name, limit, _ := strings.Cut(text, "=")
	o := Objective{name: name, kinds: []kind{kindCreate, kindStatus}}
	percentile := name
	what, ofKind, found := strings.Cut(name, ".")
	if found && objectivePercentiles[name] == 0 { // The name p99.9 has a dot too.
		percentile = ofKind
		kinds := []kind{kindCreate, kindStatus, kindEndToEnd}
		i := slices.IndexFunc(kinds, func(k kind) bool { return k.String() == what })
		if i < 0 {
			return o, fmt.Errorf("slo %q: %q is not create, status or end_to_end", text, what)
		}
		o.kinds = kinds[i : i+1]
	}
	o.percentile = objectivePercentiles[percentile]
	if o.percentile == 0 {
		return o, fmt.Errorf("slo %q: %q is not p50, p90, p95, p99, p99.9 or max", text, percentile)
	}
	var err error
	o.limit, err = time.ParseDuration(limit)
	if err != nil || o.limit <= 0 {
		return o, fmt.Errorf("slo %q: a time above 0 is needed after \"=\", such as 50ms", text)
	}
	return o, nil
}

// EndToEnd reports whether only a consumer can measure the objective.
func (o Objective) EndToEnd() bool { return slices.Contains(o.kinds, kindEndToEnd) }

// Verdict is whether a load met an objective.
type Verdict struct {
	// Objective is its name, such as create.p99.
	Objective string        `json:"objective"`
	Limit     time.Duration `json:"limit_ns"`
	// Measured is 0 if nothing was measured, or if so many requests were lost that the percentile
	// is one of them.
	Measured time.Duration `json:"measured_ns"`
	// Lost counts the requests that are slower than any limit.
	Lost int64 `json:"lost"`
	Met  bool  `json:"met"`
}

func (v Verdict) word() string {
	if v.Met {
		return "met"
	}
	return "missed"
}

// String returns the measured value, the limit and the lost requests.
func (v Verdict) String() string {
	measured := "not measured"
	switch {
	case v.Measured > 0:
		measured = fineMilliseconds(v.Measured) + " ms"
	case v.Lost > 0:
		measured = "lost"
	}
	text := fmt.Sprintf("%s is %s, limit %s ms", v.Objective, measured, fineMilliseconds(v.Limit))
	if v.Lost > 0 {
		text += fmt.Sprintf(", %d requests lost", v.Lost)
	}
	return text
}

// Judge compares the report with objectives. Lost requests count as slower than any limit: a
// service must not look fast because of what it lost. An objective of which nothing was measured is
// missed.
func (r Report) Judge(objectives []Objective) []Verdict {
	var verdicts []Verdict
	for _, o := range objectives {
		for _, k := range o.kinds {
			name := o.name
			if len(o.kinds) > 1 {
				name = k.String() + "." + name
			}
			measured, lost := r.percentile(k, o.percentile)
			verdicts = append(verdicts, Verdict{name, o.limit, measured, lost, measured > 0 && measured <= o.limit})
		}
	}
	return verdicts
}

// percentile returns the percentile of all planned requests, with the lost ones at the slow end. It
// returns 0 if it is one of them, or if nothing was planned.
func (r Report) percentile(k kind, p float64) (measured time.Duration, lost int64) {
	l := &r.whole[k]
	switch k {
	case kindCreate:
		lost = r.Create.Failed + r.Create.Unknown + r.Create.Dropped
	case kindStatus:
		lost = r.Status.Failed + r.Status.Dropped
	case kindEndToEnd:
		if r.EndToEnd != nil {
			lost = r.EndToEnd.Missing + r.EndToEnd.Untracked
		}
	}
	if l.count == 0 {
		return 0, lost
	}
	p *= float64(l.count+lost) / float64(l.count)
	switch {
	case p > 100 && lost > 0:
		return 0, lost
	case p >= 100:
		return l.longest, lost
	}
	return l.at(p), lost
}
