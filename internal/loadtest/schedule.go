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
	// RequestRateMax is about what one client machine can send; more would measure the client.
	RequestRateMax = 100_000
	// StepsMax keeps a stepped load readable, and its histograms (three of 180 KB for each step) in few megabytes.
	StepsMax = 32
)

// Step is a part of an open load: payments at a constant rate, for some time.
type Step struct {
	Rate float64       // payments per second; the reads come on top
	For  time.Duration // how long
}

// ParseRates reads rates of payments such as 200/s, 90/m, or 100,200,400: per second where no unit is given.
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

// checkSteps knows the bounds of an open load.
func checkSteps(steps []Step, reads int) error {
	var faults []error
	if len(steps) > StepsMax {
		faults = append(faults, fmt.Errorf("rate: %d steps; at most %d are possible", len(steps), StepsMax))
	}
	for _, s := range steps {
		if !(s.Rate > 0) || s.Rate*float64(1+reads) > RequestRateMax { // Also what is not a number.
			faults = append(faults, fmt.Errorf("rate: %g payments and %g reads per second; above 0 and at most %d together are possible",
				s.Rate, s.Rate*float64(reads), RequestRateMax))
		}
		if s.For <= 0 {
			faults = append(faults, fmt.Errorf("step: %v is not above 0", s.For))
		}
	}
	return errors.Join(faults...)
}

// planned is how long all steps take.
func planned(steps []Step) (sum time.Duration) {
	for _, s := range steps {
		sum += s.For
	}
	return sum
}

// arrival is one request of an open load.
type arrival struct {
	after time.Duration // since the load's start
	step  int
	kind  kind
	turn  int64 // how many of its kind there were before: tenants take turns by it
}

// arrivals is a pure function of the plan: within a step, requests are evenly spaced, and each payment is followed by its number of reads. A load that
// has count payments ends with the reads of the last one; 0 is no such end.
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
				a := arrival{after: begin + after, step: i, kind: creates, turn: payment}
				if read > 0 {
					a.kind, a.turn = statuses, payment*int64(reads)+read-1
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
