package embedded

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// What a caller may want to distinguish, by errors.Is. The text of an error that wraps one of these
// is a sentence for the user.
var (
	ErrPortInUse    = errors.New("port in use")
	ErrDirInUse     = errors.New("directory in use")
	ErrOtherVersion = errors.New("data of another PostgreSQL version")
	ErrFetch        = errors.New("PostgreSQL could not be fetched")
	ErrBinaries     = errors.New("unusable PostgreSQL binaries")
)

// faultKinds carries the kinds across the pipe between owner and parent.
var faultKinds = map[string]error{
	"port":     ErrPortInUse,
	"dir":      ErrDirInUse,
	"version":  ErrOtherVersion,
	"fetch":    ErrFetch,
	"binaries": ErrBinaries,
}

var errOwnerEnded = errors.New("the process that owns PostgreSQL ended without an answer: PostgreSQL's log may say " +
	"why; start again")

// fault is an error of a kind whose text is already the whole sentence.
type fault struct {
	kind error // nil for those that no caller branches on
	text string
}

func (f *fault) Error() string { return f.text }
func (f *fault) Unwrap() error { return f.kind }

func faultf(kind error, format string, args ...any) error {
	return &fault{kind: kind, text: fmt.Sprintf(format, args...)}
}

// answerOf turns an error into what the parent makes the same error of.
func answerOf(err error) answer {
	for name, kind := range faultKinds {
		if errors.Is(err, kind) {
			return answer{Error: err.Error(), Kind: name}
		}
	}
	return answer{Error: err.Error()}
}

// lastRelevantLine finds, in the output of a PostgreSQL program, what went wrong: after an error
// come hints and cleaning up, and before it, on its line, the time. All of these programs run with
// LC_ALL=C, so the words are these.
func lastRelevantLine(output string) string {
	var last, relevant string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		last = line
		if at := severityPattern.FindStringIndex(line); at != nil {
			relevant = line[at[0]:]
		}
	}
	if relevant == "" {
		relevant = last
	}
	return shorten(relevant)
}

// The server's severities, and "initdb: error:".
var severityPattern = regexp.MustCompile(`FATAL:|PANIC:|ERROR:|\w+: error:`)

// shorten bounds what is quoted of another program's output.
func shorten(line string) string {
	const lineMax = 300
	if len(line) <= lineMax {
		return line
	}
	return strings.ToValidUTF8(line[:lineMax], "") + "…"
}

func saysDiskFull(text string) bool {
	return strings.Contains(strings.ToLower(text), "no space left on device")
}

// PostgreSQL's words ("could not bind … Address already in use") and the library's ("process
// already listening on port").
func saysPortInUse(text string) bool {
	return strings.Contains(text, "Address already in use") || strings.Contains(text, "already listening on port")
}
