package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
)

// report is the table of a run, and what must not be.
type report struct {
	rows   []string
	faults []string

	failovers, known, lost, twice int // Of those to a synchronous standby.
}

const tableHead = "failover             |    202   replay     200    sent     422     404     503 |" +
	"  known    lost  denied   early  revert   moved   twice missing"

// add adds a failover to the table, and judges its verdict by what was promised.
func (r *report) add(f *failover, v *verdict) {
	var taken, replays, found, sent, conflicts, notFound, refused int
	first := map[int32]bool{}
	for _, one := range f.load.responses {
		switch int(one.code) {
		case http.StatusAccepted:
			if first[one.key] {
				replays++
			} else {
				taken++
			}
			first[one.key] = true
		case http.StatusOK:
			found++
		case http.StatusUnprocessableEntity:
			conflicts++
		case http.StatusNotFound:
			notFound++
		case http.StatusServiceUnavailable:
			refused++
		}
		if one.payment.sent {
			sent++
		}
	}
	r.rows = append(r.rows, fmt.Sprintf("%2d %-17s | %6d %8d %7d %7d %7d %7d %7d | %6d %7d %7d %7d %7d %7d %7d %7d",
		f.number, f.name, taken, replays, found, sent, conflicts, notFound, refused,
		v.Known, v.Lost, v.Denied, v.Early, v.Reverted, v.Moved, v.Twice, v.Missing))
	if faults := v.faults(f.promise); len(faults) > 0 {
		r.faults = append(r.faults, fmt.Sprintf("failover %d, %s: %s\n  %s", f.number, f.name,
			strings.Join(faults, ", "), strings.Join(v.Examples, "\n  ")))
	}
	if f.promise == promiseAll {
		r.failovers, r.known, r.lost, r.twice = r.failovers+1, r.known+v.Known, r.lost+v.Lost, r.twice+v.Twice
	}
}

// faults returns what breaks a promise.
func (v *verdict) faults(p promise) (faults []string) {
	must := func(holds bool, format string, args ...any) {
		if !holds {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	must(v.Known > 0, "no client knows a payment")
	must(v.Twice == 0, "%d payments twice in the topic", v.Twice)
	must(v.Missing == 0, "%d payments missing in the topic", v.Missing)
	must(v.Faulty == 0, "%d responses that the contract does not have", v.Faulty)
	switch p {
	case promiseAll:
		must(v.Lost == 0, "%d payments lost", v.Lost)
		must(v.Denied == 0, "%d responses 404 for known payments", v.Denied)
		must(v.Early == 0, "%d responses given while no standby could confirm", v.Early)
		must(v.Reverted == 0, "%d responses created after sent", v.Reverted)
		must(v.Moved == 0, "%d payments moved in the topic", v.Moved)
	case promiseSent:
		must(v.LostSent == 0, "%d payments lost that a client knew as sent", v.LostSent)
		must(v.Moved == 0, "%d payments moved in the topic", v.Moved)
		must(v.Lost > v.LostSent, "no payment was lost, which shows nothing: the standby was behind")
	case promiseNone:
		must(v.Lost > 0, "the control lost no payment: the verdict finds nothing")
	}
	return faults
}

// print prints the table and the verdict.
func (r *report) print(w io.Writer, rows, kcat, console int) {
	_, _ = fmt.Fprintf(w, "\n%s\n%s\n%s\n", tableHead, strings.Repeat("-", len(tableHead)), strings.Join(r.rows, "\n"))
	_, _ = fmt.Fprintf(w, "\n%d payments in the table; kcat read %d records, the console consumer %d\n",
		rows, kcat, console)
	result := "holds"
	if len(r.faults) > 0 {
		result = "FAILED"
	}
	_, _ = fmt.Fprintf(w, "VERDICT: %s: %d failovers to a synchronous standby, %d payments known to clients, "+
		"%d lost, %d twice\n", result, r.failovers, r.known, r.lost, r.twice)
}
