package sender

// Point names a step of fenced delivery after which a test may stop, kill or bend what it likes; in
// operation nobody listens. The protocol must hold whatever happens at any of them.
type Point string

// The points, in the order of the protocol.
const (
	TakeOverClaimed   Point = "take-over: claimed"   // The partition's row is locked.
	TakeOverFenced    Point = "take-over: fenced"    // Nobody else can publish any more.
	TakeOverRead      Point = "take-over: read"      // A step of the log's tail is read.
	TakeOverMarked    Point = "take-over: marked"    // Its payments are marked, not yet committed.
	TakeOverCommitted Point = "take-over: committed" // The step is on record.
	TakeOverDone      Point = "take-over: done"      // The table knows all of the log.
	PassSelected      Point = "pass: selected"       // A batch of payments is locked.
	PassProduced      Point = "pass: produced"       // Its records are in the log, undecided.
	// They are in the log for good: PostgreSQL does not know.
	PassCommitted Point = "pass: committed"
	PassMarked    Point = "pass: marked"   // It knows, but has not committed.
	PassRecorded  Point = "pass: recorded" // It is on record.
)

// Points lists them all.
func Points() []Point {
	return []Point{
		TakeOverClaimed, TakeOverFenced, TakeOverRead, TakeOverMarked, TakeOverCommitted, TakeOverDone,
		PassSelected, PassProduced, PassCommitted, PassMarked, PassRecorded,
	}
}

// at tells a test where the owner is.
func (o *owner) at(p Point) {
	if o.sender.At != nil {
		o.sender.At(o.partition, p)
	}
}
