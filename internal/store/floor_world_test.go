package store

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// world is one partition in a PostgreSQL that is played in memory: transaction ids, snapshots, a
// sequence, and creates that go on between any two steps of the owner. See floor for the rules.
type world struct {
	rand *rand.Rand
	// The one rule that is not kept.
	breaks rule
	// Delivery.
	locked bool
	nextID uint64
	// Transactions that have an id.
	running map[uint64]bool
	// Of the sequence.
	last int64
	// The sequence stays below: the owner notices that it was set back.
	limit int64
	// Committed.
	rows []*worldRow
	// Under way.
	creates []*worldCreate
	// A long transaction that writes.
	writer uint64

	generation int64
	// Of the partition's row.
	version int
	// The owner has locked it.
	held bool

	// The owner's.
	floor floor
	// The last value that it has read.
	read int64
	// The version of the row that it left.
	left int
	// Checks and claims that passed over an unsent payment.
	passed int
	// Where the floor was.
	highest int64
}

// rule is one that the floor rests on.
type rule string

const (
	noRule        rule = "none"
	idBeforeDraw  rule = "a create takes its id before it draws a number"
	idAfterRead   rule = "the owner takes its id after it has read the last value"
	waitForXmin   rule = "the floor rises once xmin is above the id"
	commitFirst   rule = "the floor rises after the commit has returned"
	stopAtSkipped rule = "the floor stays below a row that was skipped"
	raiseAtResend rule = "resend raises the generation"
	checkRow      rule = "a check notices that the row was changed"
	checkLast     rule = "the floor falls when the sequence was set back"
)

type worldRow struct {
	seq          int64
	sent, locked bool
}

type worldCreate struct {
	id  uint64
	seq int64
}

func newWorld(seed uint64, locked bool, breaks rule) *world {
	return &world{
		rand: rand.New(rand.NewPCG(seed, 0)), breaks: breaks, locked: locked,
		running: map[uint64]bool{}, limit: math.MaxInt64,
	}
}

// run plays so many steps of the owner.
func (w *world) run(steps int) {
	for range steps {
		w.others()
		if w.rand.IntN(3) == 0 {
			w.check()
		} else {
			w.batch()
		}
	}
}

func (w *world) takeID() uint64 {
	w.nextID++
	w.running[w.nextID] = true
	return w.nextID
}

func (w *world) xmin() uint64 {
	xmin := w.nextID + 1
	for id := range w.running {
		xmin = min(xmin, id)
	}
	return xmin
}

// others lets creates, writers and operators make a few steps.
func (w *world) others() {
	for range w.rand.IntN(4) {
		switch n := w.rand.IntN(100); {
		case n < 25 && len(w.creates) < 4:
			w.creates = append(w.creates, &worldCreate{})
		case n < 90:
			w.stepCreate()
		case n < 92 && w.writer == 0:
			w.writer = w.takeID()
		case n < 94:
			delete(w.running, w.writer)
			w.writer = 0
		case n < 95 && !w.held:
			w.resend()
		case n < 96 && w.last > 3:
			w.setBack()
		default:
			for _, r := range w.rows {
				r.locked = w.locked && w.rand.IntN(10) == 0
			}
		}
	}
}

// stepCreate makes the next step of a create: its id, its number, its end.
func (w *world) stepCreate() {
	if len(w.creates) == 0 {
		return
	}
	i := w.rand.IntN(len(w.creates))
	c := w.creates[i]
	switch {
	case c.id == 0 && (c.seq != 0 || w.breaks != idBeforeDraw):
		c.id = w.takeID()
	case c.seq == 0:
		if w.last+1 < w.limit {
			w.last++
			c.seq = w.last
		}
	case w.rand.IntN(3) == 0: // It may take long, as when it waits for a conflicting key.
		delete(w.running, c.id)
		w.creates = slices.Delete(w.creates, i, i+1)
		if w.rand.IntN(4) > 0 { // Else it is rolled back.
			w.rows = append(w.rows, &worldRow{seq: c.seq})
		}
	}
}

// resend makes sent payments unsent, as `partitions resume --resend` does.
func (w *world) resend() {
	for _, r := range w.rows {
		r.sent = r.sent && w.rand.IntN(3) > 0
	}
	w.version++
	if w.breaks != raiseAtResend {
		w.generation++
	}
}

// setBack sets the sequence back by hand.
func (w *world) setBack() {
	w.last -= 1 + w.rand.Int64N(w.last/2)
	if w.last < w.read {
		w.limit = w.read
	}
}

// readLast is what the owner reads of the sequence.
func (w *world) readLast() int64 {
	w.read, w.limit = w.last, math.MaxInt64
	if w.breaks == checkLast {
		return max(w.last, w.floor.last)
	}
	return w.last
}

// unsent lists the unsent payments from a seq on, in order.
func (w *world) unsent(from int64) (unsent []*worldRow) {
	for _, r := range w.rows {
		if !r.sent && r.seq >= from {
			unsent = append(unsent, r)
		}
	}
	slices.SortStableFunc(unsent, func(a, b *worldRow) int { return int(a.seq - b.seq) })
	return unsent
}

// judge notes whether the floor passes over an unsent payment.
func (w *world) judge() {
	if len(w.unsent(w.floor.seq)) < len(w.unsent(0)) {
		w.passed++
	}
	w.highest = max(w.highest, w.floor.seq)
}

// check is Session.HasUnsent: its statement sees everything at one moment.
func (w *world) check() {
	sameRow, last := w.version == w.left || w.breaks == checkRow, w.readLast()
	if !w.floor.checked(sameRow, last) {
		w.floor.checked(sameRow, last)
	}
	w.judge()
}

// batch is a claim with its mark and its commit. The others go on between any two steps, also
// within the statement that takes the id.
func (w *world) batch() {
	w.held = true
	defer func() { w.held = false }()
	s := sight{xmin: w.xmin()}
	if w.breaks == waitForXmin {
		s.xmin = math.MaxUint64
	}
	w.others()
	s.xid = w.takeID()
	defer delete(w.running, s.xid)
	w.others()
	s.last = w.readLast()
	if w.breaks == idAfterRead && w.floor.last != 0 {
		w.floor.last = s.last
	}
	p := Partition{Generation: w.generation, ChangedAt: time.Unix(1, 0)}
	w.floor.claimed(p, s)
	w.judge()
	w.others()
	claimed := slices.DeleteFunc(w.unsent(w.floor.seq), func(r *worldRow) bool { return r.locked })
	w.others()
	w.mark(p, claimed[:min(len(claimed), 1+w.rand.IntN(3))])
}

// mark marks what was claimed, and commits or fails to.
func (w *world) mark(p Partition, claimed []*worldRow) {
	var marked int64
	for _, r := range claimed {
		r.sent, marked = true, r.seq
	}
	if rest := w.unsent(w.floor.seq); w.locked && len(rest) > 0 && w.breaks != stopAtSkipped {
		marked = min(marked, rest[0].seq)
	}
	failed := w.rand.IntN(8) == 0
	if failed {
		for _, r := range claimed {
			r.sent = false
		}
	} else {
		w.version++
		w.left = w.version
	}
	if !failed || w.breaks == commitFirst {
		w.floor.committed(p, marked)
	}
}
