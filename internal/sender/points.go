package sender

// Point names a step of fenced delivery after which a test may stop, kill or disturb what it likes.
// The protocol must hold whatever happens at any of them. Outside of tests nothing happens there.
type Point string

// The points, in the order of the protocol.
const (
	// TakeoverClaimed: the partition's row is locked.
	TakeoverClaimed Point = "takeover: claimed"
	// TakeoverFenced: no other producer can publish any more.
	TakeoverFenced Point = "takeover: fenced"
	// TakeoverRead: a step of the log's tail is read.
	TakeoverRead Point = "takeover: read"
	// TakeoverMarked: the payments of the step are marked, and not yet committed.
	TakeoverMarked Point = "takeover: marked"
	// TakeoverCommitted: the step is on record.
	TakeoverCommitted Point = "takeover: committed"
	// TakeoverDone: the table has all of the log.
	TakeoverDone Point = "takeover: done"
	// BatchSelected: a batch of payments is locked.
	BatchSelected Point = "batch: selected"
	// BatchProduced: the records are in the log, in an open transaction.
	BatchProduced Point = "batch: produced"
	// BatchCommitted: the records are committed in Kafka, and the rows are `created`.
	BatchCommitted Point = "batch: committed"
	// BatchMarked: the rows are marked, and not yet committed.
	BatchMarked Point = "batch: marked"
	// BatchRecorded: the batch is on record.
	BatchRecorded Point = "batch: recorded"
)

// Points returns all points.
func Points() []Point {
	return []Point{
		TakeoverClaimed, TakeoverFenced, TakeoverRead, TakeoverMarked, TakeoverCommitted, TakeoverDone,
		BatchSelected, BatchProduced, BatchCommitted, BatchMarked, BatchRecorded,
	}
}

// at calls Config.At.
func (c *Config) at(partition int32, p Point) {
	if c.At != nil {
		c.At(partition, p)
	}
}
