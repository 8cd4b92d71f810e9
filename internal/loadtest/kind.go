package loadtest

// kind is one of the things that a load measures.
type kind int

const (
	kindCreate kind = iota
	kindStatus
	kindEndToEnd
	kindCount
)

// String returns the name in objectives and in JSON.
func (k kind) String() string { return [kindCount]string{"create", "status", "end_to_end"}[k] }

// title returns the name in texts.
func (k kind) title() string { return [kindCount]string{"create", "status", "end to end"}[k] }
