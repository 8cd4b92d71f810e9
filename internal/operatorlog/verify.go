package operatorlog

import "fmt"

// Verdict is what a verification has found.
type Verdict string

// The verdicts.
const (
	// Intact means that each row continues the one before, and that the kept head is in the log.
	Intact Verdict = "intact"
	// Tampered means that a row was changed, removed, swapped or inserted, or that rows are cut
	// off.
	Tampered Verdict = "tampered"
	// OtherCopy means that the chain is whole, and the kept head is not in it. The log has moved to
	// another database or timeline: an older copy was restored.
	OtherCopy Verdict = "other_copy"
)

// Move is a place in the log where the database became another one.
type Move struct {
	// Row is the first row of the new database. If it is beyond the last row, the new database has
	// written none yet.
	Row  int64    `json:"row"`
	From Database `json:"from"`
	To   Database `json:"to"`
}

// String describes the move.
func (m Move) String() string {
	if m.From.SystemID == m.To.SystemID && m.From.DatabaseID == m.To.DatabaseID && m.From.TableID == m.To.TableID {
		return fmt.Sprintf("from row %d on: timeline %d after %d, a failover or a restore", m.Row, m.To.Timeline,
			m.From.Timeline)
	}
	return fmt.Sprintf("from row %d on: another database (system %d, database %d, table %d), a restored copy",
		m.Row, m.To.SystemID, m.To.DatabaseID, m.To.TableID)
}

// movesMax bounds the moves of a report. The first ones are kept.
const movesMax = 10

// Report is the result of a verification.
type Report struct {
	Verdict Verdict `json:"verdict"`
	// Fault says what is wrong; empty if nothing is.
	Fault string `json:"fault,omitempty"`
	// FirstBad is the first row that is changed, missing or not ours; 0 if there is none.
	FirstBad int64 `json:"first_bad,omitempty"`
	// Rows is the number of good rows, from the first one on.
	Rows int64 `json:"rows"`
	// Head is the last good row. It is zero for an empty log.
	Head Head `json:"head"`
	// Unended counts the good rows that began an operation which no good row ends.
	Unended int64 `json:"unended"`
	// Moves are the first movesMax moves.
	Moves []Move `json:"moves,omitempty"`
	// MovesTotal counts all moves.
	MovesTotal int `json:"moves_total"`
}

// Verifier checks a log row by row, in constant memory.
type Verifier struct {
	kept   *Head
	keptIs *Hash // The hash of the row that kept names, once it was seen.
	last   Entry
	report Report
}

// NewVerifier returns a verifier. kept is a head that was kept outside the database, or nil.
func NewVerifier(kept *Head) *Verifier {
	return &Verifier{kept: kept, report: Report{Verdict: Intact}}
}

// Add checks the next row by its number. It returns false once a row is bad: what comes after it
// shows nothing.
func (v *Verifier) Add(e Entry) bool {
	next := v.last.Seq + 1
	switch {
	case e.Seq != next:
		return v.tampered(next, "row %d is missing: row %d follows row %d", next, e.Seq, v.last.Seq)
	case e.Format != Format:
		return v.tampered(next, "row %d has format %d, which this program does not know", next, e.Format)
	case e.Sum() != e.Hash:
		return v.tampered(next, "row %d does not have the content that was hashed", next)
	case e.Previous != v.last.Hash:
		return v.tampered(max(v.last.Seq, 1), "row %d is not the row that row %d continues", max(v.last.Seq, 1), next)
	}
	if v.last.Seq > 0 {
		v.moved(e.Seq, v.last.Database, e.Database)
	}
	v.count(e)
	v.last = e
	return true
}

func (v *Verifier) count(e Entry) {
	v.report.Rows++
	v.report.Head = e.Head()
	switch e.Phase {
	case Begun:
		v.report.Unended++
	case Ended:
		v.report.Unended--
	case Done:
	}
	if v.kept != nil && v.kept.Seq == e.Seq {
		v.keptIs = &e.Hash
	}
}

func (v *Verifier) tampered(row int64, format string, args ...any) bool {
	v.report.Verdict, v.report.FirstBad, v.report.Fault = Tampered, row, fmt.Sprintf(format, args...)
	return false
}

func (v *Verifier) moved(row int64, from, to Database) {
	if from == to {
		return
	}
	v.report.MovesTotal++
	if len(v.report.Moves) < movesMax {
		v.report.Moves = append(v.report.Moves, Move{row, from, to})
	}
}

// Report ends the verification after the last row. head is the row that has the head, or nil if
// there is none, and here the database that was read.
func (v *Verifier) Report(head *Head, here Database) Report {
	if v.report.Verdict != Intact {
		return v.report
	}
	if v.last.Seq > 0 {
		v.moved(v.last.Seq+1, v.last.Database, here)
	}
	last := v.last.Seq
	switch {
	case head == nil:
		v.tampered(last+1, "the row with the head of the log is missing: it is not known where the log ends")
	case head.Seq > last:
		v.tampered(last+1, "the log ends with row %d: rows %d to %d are cut off", last, last+1, head.Seq)
	case head.Seq < last:
		v.tampered(head.Seq+1, "row %d was not written by a command: the log ends with row %d", head.Seq+1, head.Seq)
	case head.Hash != v.last.Hash:
		v.tampered(max(last, 1), "row %d is not the row that the log ends with", last)
	case v.kept != nil:
		v.compareKept(last)
	}
	return v.report
}

// compareKept compares the log with the head that was kept.
func (v *Verifier) compareKept(last int64) {
	kept := v.kept.Seq
	switch {
	case kept > last && v.report.MovesTotal > 0:
		v.otherCopy("the log ends with row %d, before row %d: an older copy was restored, or rows were cut off",
			last, kept)
	case kept > last:
		v.tampered(last+1, "the log ends with row %d: rows %d to %d are cut off", last, last+1, kept)
	case *v.keptIs != v.kept.Hash && v.report.MovesTotal > 0:
		v.otherCopy("row %d is another one: an older copy was restored and written on, or rows were replaced", kept)
	case *v.keptIs != v.kept.Hash:
		v.tampered(kept, "row %d is another one: it, or an earlier row, was replaced with all that follow", kept)
	}
}

func (v *Verifier) otherCopy(format string, args ...any) {
	v.report.Verdict, v.report.Fault = OtherCopy, fmt.Sprintf(format, args...)
}
