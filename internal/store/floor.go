package store

import "time"

// floor is where the checks and claims of an owner begin: no payment of the partition with a
// smaller seq is unsent, or ever will be. Without it each would walk over the index entries of all
// sent payments that vacuum cannot remove, because some session holds a snapshot.
//
// Rows become visible in another order than the sequence numbers them. So "all that I saw below N
// is sent" is not enough. These rules make it so:
//
//  1. A create takes its transaction id before it draws a number (create_gate_is_open).
//  2. The owner reads the sequence's last value N in one statement, and takes its own transaction
//     id X in a later one. Each create that drew a number up to N has an id below X.
//  3. If the xmin of a later snapshot is above X, all of those have ended, and what they committed
//     is visible. From now on no new row has a seq up to N.
//  4. The floor rises to N at most, and at most to the last row that was marked in order by a
//     commit that returned. Locked delivery skips rows that another session has locked; there it
//     rises at most to the first row that is still unsent.
//
// A read-only snapshot has no transaction id, so it does not hold the floor back. A long
// transaction that writes does.
//
// Rows become unsent again, or get a smaller number, in two ways. `partitions resume --resend`
// raises the generation of the partition. A sequence that is set back by hand has a smaller last
// value than before, until it has overtaken it again. In both cases the owner begins at the bottom.
// So does a new session, which has no floor.
//
// test/model/floor.pml checks the rules, and that each is needed.
type floor struct {
	// seq is where checks and claims begin.
	seq int64
	// generation is that of the partition's row, as this session left it.
	generation int64
	// changedAt is when the state of the partition's row last changed, as this session left it.
	changedAt time.Time
	// last is the greatest last value that was read.
	last int64
	// number is N of rules 2 and 3: a last value that was read before xid was taken.
	number int64
	// xid is X of rules 2 and 3; 0 while there is none.
	xid uint64
	// complete is the N of the last rule 3: no new row has a seq up to it.
	complete int64
}

// sight is what one statement of a claim saw.
type sight struct {
	// last is the sequence's last value; 0 if it was never used.
	last int64
	// xid is the id of this transaction.
	xid uint64
	// xmin is that of the statement's snapshot.
	xmin uint64
}

// claimed updates the floor with what the first statement of a claim saw, and drops the floor if it
// does not hold.
func (f *floor) claimed(p Partition, s sight) {
	if p.Generation != f.generation || !p.ChangedAt.Equal(f.changedAt) || s.last < f.last {
		*f = floor{generation: p.Generation, changedAt: p.ChangedAt}
	}
	if f.xid != 0 && s.xmin > f.xid {
		f.complete, f.xid = f.number, 0
	}
	if f.xid == 0 && f.last > f.complete {
		// An earlier statement than the one that took xid has read f.last.
		f.number, f.xid = f.last, s.xid
	}
	f.last = s.last
}

// committed raises the floor once a commit has returned. The commit has marked the first of the
// unsent rows in order, up to the seq marked, or 0 if it marked none. It left the partition's row
// as p.
func (f *floor) committed(p Partition, marked int64) {
	f.generation, f.changedAt = p.Generation, p.ChangedAt
	f.seq = max(f.seq, min(f.complete, marked))
}

// checked updates the floor with what a check for unsent payments saw. It reports whether the check
// saw all unsent payments: the partition's row is as this session left it, and the sequence was not
// set back. Otherwise it drops the floor.
func (f *floor) checked(sameRow bool, last int64) bool {
	if last < f.last || f.seq > 0 && !sameRow {
		*f = floor{}
		return false
	}
	f.last = last
	return true
}
