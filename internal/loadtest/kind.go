package loadtest

// kind is one of the things that a load measures.
type kind int

const (
	creates  kind = iota // POST /payments until its 202
	statuses             // GET /payments/{id}
	endToEnd             // POST until a read_committed consumer sees the payment
	kinds
)

// String is the name in objectives and in JSON.
func (k kind) String() string { return [kinds]string{"create", "status", "end_to_end"}[k] }

// title is the name for people.
func (k kind) title() string { return [kinds]string{"writes", "reads", "end to end"}[k] }
