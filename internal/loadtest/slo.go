package loadtest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Objective is a latency that a load must not exceed: an SLO.
type Objective struct {
	kinds      []kind
	percentile float64 // 100 is the maximum
	name       string  // as it was written: create.p99
	limit      time.Duration
}

// objectivePercentiles are those that a report tells.
var objectivePercentiles = map[string]float64{"p50": 50, "p90": 90, "p95": 95, "p99": 99, "p99.9": 99.9, "max": 100}

// ParseObjective reads p99=50ms (of creates and of status reads alike), create.p99=50ms, status.p95=5ms, or end_to_end.p99=200ms.
func ParseObjective(text string) (Objective, error) {
	name, limit, _ := strings.Cut(text, "=")
	o := Objective{name: name, kinds: []kind{creates, statuses}}
	of := name
	if what, percentile, found := strings.Cut(name, "."); found && objectivePercentiles[name] == 0 {
		of = percentile
		i := slices.IndexFunc([]kind{creates, statuses, endToEnd}, func(k kind) bool { return k.String() == what })
		if i < 0 {
			return o, fmt.Errorf("slo %q: %q is none of create, status, end_to_end", text, what)
		}
		o.kinds = []kind{kind(i)}
	}
	o.percentile = objectivePercentiles[of]
	if o.percentile == 0 {
		return o, fmt.Errorf("slo %q: %q is none of p50, p90, p95, p99, p99.9, max", text, of)
	}
	var err error
	if o.limit, err = time.ParseDuration(limit); err != nil || o.limit <= 0 {
		return o, fmt.Errorf("slo %q: a time above 0 is needed after \"=\", such as 50ms", text)
	}
	return o, nil
}

// EndToEnd tells whether the objective is about what only a consumer can measure.
func (o Objective) EndToEnd() bool { return slices.Contains(o.kinds, endToEnd) }

// Verdict is what a load came to by an objective.
type Verdict struct {
	Objective string        `json:"objective"` // create.p99
	Limit     time.Duration `json:"limit_ns"`
	Measured  time.Duration `json:"measured_ns"` // 0 when so many got no answer that there is no such time
	Lost      int64         `json:"lost"`        // got no answer: they count as later than any limit
	Met       bool          `json:"met"`
}

// String is a sentence for people.
func (v Verdict) String() string {
	measured := "not to be told"
	if v.Measured > 0 {
		measured = fineMilliseconds(v.Measured) + " ms"
	}
	text := fmt.Sprintf("%s is %s, the limit is %s ms", v.Objective, measured, fineMilliseconds(v.Limit))
	if v.Lost > 0 {
		text += "; " + strconv.FormatInt(v.Lost, 10) + " got no answer, and count as later than that"
	}
	return text
}

// Judge holds the report against the objectives. What got no answer in the end, or was not sent because too many were under way, counts as later than
// any limit: a service must not look fast by what it lost. Of a payment that never became visible the same holds end to end. An objective of which
// nothing was measured is missed.
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

// percentile is of all that was due, those lost at the far end; 0 where it is one of them, or nothing was due.
func (r Report) percentile(k kind, p float64) (measured time.Duration, lost int64) {
	l := &r.whole[k]
	switch k {
	case creates:
		lost = r.Writes.Failed + r.Writes.Unknown + r.Writes.NoPlace
	case statuses:
		lost = r.Reads.Failed + r.Reads.NoPlace
	case endToEnd:
		if r.EndToEnd != nil {
			lost = r.EndToEnd.Missing + r.EndToEnd.NotFollowed
		}
	}
	if l.count == 0 {
		return 0, lost
	}
	if p *= float64(l.count+lost) / float64(l.count); p > 100 && lost > 0 {
		return 0, lost
	}
	if p >= 100 {
		return l.longest, lost
	}
	return l.at(p), lost
}
