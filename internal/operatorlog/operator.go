package operatorlog

import (
	"cmp"
	"context"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/paylatch/paylatch/internal/buildinfo"
)

// Operator is who does something, as this program knows. PostgreSQL adds the role and the address.
type Operator struct {
	OSUser string `json:"os_user"`
	Host   string `json:"host"`
	// Version is that of the program.
	Version string `json:"version"`
	// Command is the command without its arguments, such as "partitions halt".
	Command string `json:"command"`
}

// The bounds of the fields in bytes, as in the schema. Longer values are cut. A user's name of
// Linux has at most 32 bytes, a host's at most 64, and a DNS name at most 255.
const (
	osUserBytesMax  = 128
	hostBytesMax    = 255
	versionBytesMax = 128
	commandBytesMax = 64
)

// ThisProcess returns the operator who has started this process.
func ThisProcess(command string) Operator {
	name := "uid " + strconv.Itoa(os.Getuid()) // In a container there may be no name.
	if u, err := user.Current(); err == nil {
		name = cmp.Or(u.Username, name)
	}
	host, _ := os.Hostname()
	return Operator{
		OSUser: bounded(name, osUserBytesMax), Host: bounded(host, hostBytesMax),
		Version: bounded(buildinfo.Read().String(), versionBytesMax), Command: bounded(command, commandBytesMax),
	}
}

// bounded returns text that the log takes: not empty, at most so many bytes of whole characters,
// and without NUL, which PostgreSQL does not store.
func bounded(text string, bytesMax int) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "?"), "\x00", "?")
	for len(text) > bytesMax {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
	return cmp.Or(text, "unknown")
}

// Command is a command in progress: who runs it, and who wants to know what it has recorded.
type Command struct {
	Operator
	// Recorded is called with each row once it is on record, from one goroutine at a time or from
	// several. It may be nil.
	Recorded func(action string, head Head)
}

type commandKey struct{}

// NewContext returns a context whose changes are recorded as those of the command.
func NewContext(ctx context.Context, c Command) context.Context {
	return context.WithValue(ctx, commandKey{}, c)
}

// FromContext returns the command of the context. Without one it is named by the program, as for
// the demo and for tests.
func FromContext(ctx context.Context) Command {
	if c, ok := ctx.Value(commandKey{}).(Command); ok {
		return c
	}
	return Command{Operator: ThisProcess(filepath.Base(os.Args[0]))}
}
