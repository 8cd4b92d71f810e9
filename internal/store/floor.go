package store

import "time"

// floor is where the looks and claims of an owner begin: in its partition no payment with a smaller
// seq is unsent, or will be. Without it each would walk over the index entries of all that was sent
// and that vacuum cannot remove, because a session somewhere holds a snapshot.
//
// A sequence gives numbers out of the order in which rows become visible, so "all that I saw below
// N is sent" is not enough. These rules make it so:
//
// 1. A create takes its transaction id before it draws a number (create_gate_is_open). 2. The owner
// reads the sequence's last value N in one statement, and takes its own transaction id X
//
//	in a later one. Each create that drew a number up to N has an id below X.
//
// 3. If the xmin of a later snapshot is above X, all of those have ended, and what they committed
// is
//
//		visible. From now on no new row has a seq up to N.
//	 4. The floor rises to N at most, and at most to the last row that was marked in order by a commit
//	    that returned. In locked delivery, which skips rows that another session has locked, it rises
//	    at most to the first row that is still unsent.
//
// A read-only snapshot has no transaction id, so it does not hold the floor back; a long
// transaction that writes does.
//
// Rows become unsent again, or get a smaller number, in two ways. `partitions resume --resend`
// raises the partition's generation. A sequence that is set back by hand has a smaller last value
// than before, as long as it has not overtaken it again. Either makes the owner begin at the
// bottom, and so does a new session, which begins without a floor.
//
// test/model/floor.pml checks the rules, and that each is needed.
type floor struct {
	// Looks and claims begin at this seq.
	seq int64
	// Of the partition's row, as this session left it,
	generation int64
	// and when its state last changed.
	changedAt time.Time
	// The greatest last value that was read.
	last int64
	// N of rules 2 and 3: a last value that was read before xid was taken.
	number int64
	// X of rules 2 and 3; 0 while there is none.
	xid uint64
	// No new row has a seq up to here.
	complete int64
}

// sight is what one statement of a claim saw.
type sight struct {
	// The sequence's last value; 0 if it was never used.
	last int64
	// The transaction's own id.
	xid uint64
	// Of the statement's snapshot.
	xmin uint64
}

// claimed takes what the first statement of a claim saw, and drops the floor if it does not hold.
func (f *floor) claimed(p Partition, s sight) {
	if p.Generation != f.generation || !p.ChangedAt.Equal(f.changedAt) || s.last < f.last {
		*f = floor{generation: p.Generation, changedAt: p.ChangedAt}
	}
	if f.xid != 0 && s.xmin > f.xid {
		f.complete, f.xid = f.number, 0
	}
	if f.xid == 0 && f.last > f.complete {
		f.number, f.xid = f.last, s.xid // Read by an earlier statement than the one that took xid.
	}
	f.last = s.last
}

// committed raises the floor once a commit has returned: it marked the first of the unsent rows in
// order, up to the seq marked, or 0 if it marked none. It left the partition's row as p.
func (f *floor) committed(p Partition, marked int64) {
	f.generation, f.changedAt = p.Generation, p.ChangedAt
	f.seq = max(f.seq, min(f.complete, marked))
}

// looked takes what a look saw beside payments, and reports whether the look saw all that is
// unsent: the partition's row is as this session left it, and the sequence was not set back.
// Otherwise it drops the floor.
func (f *floor) looked(sameRow bool, last int64) bool {
	if last < f.last || f.seq > 0 && !sameRow {
		*f = floor{}
		return false
	}
	f.last = last
	return true
}
