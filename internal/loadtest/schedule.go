package loadtest

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	// RequestRateMax is about what one machine can send. More would measure the load generator.
	RequestRateMax = 100_000
	// StepsMax keeps a report readable, and the histograms (three of 180 KB for each step) in few
	// megabytes.
	StepsMax = 32
)

// Step is a part of an open load: payments at a constant rate, for some time.
type Step struct {
	// Rate is the number of payments per second. Status requests come on top.
	Rate float64
	For  time.Duration
}

// ParseRates parses rates of payments such as 200/s, 90/m, or 100,200,400. Without a unit they are
// per second.
func ParseRates(list string) ([]float64, error) {
	var rates []float64
	for text := range strings.SplitSeq(list, ",") {
		number, unit, found := strings.Cut(strings.TrimSpace(text), "/")
		per := 1.0
		switch {
		case !found || unit == "s":
		case unit == "m":
			per = 60
		case unit == "h":
			per = 3600
		default:
			return nil, fmt.Errorf("rate %q: the unit is /s, /m or /h", text)
		}
		n, err := strconv.ParseFloat(number, 64)
		if err != nil || math.IsNaN(n) || math.IsInf(n, 0) || n <= 0 {
			return nil, fmt.Errorf("rate %q: a number above 0 is needed, such as 200/s", text)
		}
		rates = append(rates, n/per)
	}
	return rates, nil
}

// checkSteps reports all steps that are out of bounds together.
func checkSteps(steps []Step, reads int) error {
	var faults []error
	if len(steps) > StepsMax {
		faults = append(faults, fmt.Errorf("rate: %d steps; at most %d are allowed", len(steps), StepsMax))
	}
	for _, s := range steps {
		if !(s.Rate > 0) || s.Rate*float64(1+reads) > RequestRateMax { // Also if it is not a number.
			faults = append(faults, fmt.Errorf(
				"rate: %g payments and %g status requests per second; above 0 and at most %d together are allowed",
				s.Rate, s.Rate*float64(reads), RequestRateMax))
		}
		if s.For <= 0 {
			faults = append(faults, fmt.Errorf("step: %v is not above 0", s.For))
		}
	}
	return errors.Join(faults...)
}

// stepsLength returns how long all steps take.
func stepsLength(steps []Step) (sum time.Duration) {
	for _, s := range steps {
		sum += s.For
	}
	return sum
}

// arrival is one request of an open load.
type arrival struct {
	// after is its planned time, from the start of the load.
	after time.Duration
	step  int
	kind  kind
	// turn counts those of its kind before it. It selects the tenant.
	turn int64
}

// arrivals returns the requests of a plan. Within a step they are evenly spaced, and each create is
// followed by its status requests. With count above 0 it ends after those of the last payment.
func arrivals(steps []Step, reads int, count int64) iter.Seq[arrival] {
	return func(yield func(arrival) bool) {
		var begin time.Duration
		var n int64
		for i, s := range steps {
			perSecond := s.Rate * float64(1+reads)
			for k := 0; ; k++ {
				after := time.Duration(float64(k) / perSecond * float64(time.Second))
				if after >= s.For {
					break
				}
				payment, read := n/int64(1+reads), n%int64(1+reads)
				if count > 0 && payment >= count {
					return
				}
				a := arrival{after: begin + after, step: i, kind: kindCreate, turn: payment}
				if read > 0 {
					a.kind, a.turn = kindStatus, payment*int64(reads)+read-1
				}
				if !yield(a) {
					return
				}
				n++
			}
			begin += s.For
		}
	}
}
