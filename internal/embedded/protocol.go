package embedded

// The owner reads one JSON value per line from its standard input: first a spec, then any number of
// restart orders; the end of input is the order to stop. It answers each, the stop too, with one
// line on its standard output.

// spec is all that an owner needs to know. Every path is absolute and open to the owner's user.
type spec struct {
	Home      string // belongs to the owner: data, password, its lock and its scratch
	Temporary bool   // Home goes when the owner does
	Cache     string // for fetched binaries; belongs to the owner
	Bin       string // given binaries; "" = the fetched ones
	Port      int    // 0 = any
	Fsync     bool
}

type restartOrder struct {
	Immediate bool
}

type answer struct {
	// Download, if set, is an event before the answer itself.
	Download *download `json:",omitempty"`

	Port     int    `json:",omitempty"`
	Password string `json:",omitempty"`
	Error    string `json:",omitempty"`
	Kind     string `json:",omitempty"` // of the error, by its name in faultKinds
}

// download is how much of PostgreSQL is downloaded, in bytes.
type download struct{ Done, Total int64 }

func (a answer) err() error {
	if a.Error == "" {
		return nil
	}
	return &fault{kind: faultKinds[a.Kind], text: a.Error}
}
