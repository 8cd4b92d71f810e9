package secretfile

import (
	"fmt"
	"log/slog"
	"strings"
)

// bytesMax bounds a secret: the longest are tokens of a few kilobytes.
const bytesMax = 64 << 10

// File is a secret in a file. The zero File is not given. A File is the value of a flag; copies
// share what was read. Safe for concurrent use.
type File struct {
	path    string
	watched *Watched[string]
}

// Open reads the file, and returns an error if it cannot be used. check, if any, refuses content;
// its error must not hold it. One newline at the end of the content is dropped, since editors and
// echo add it.
func Open(path string, check func(string) error) (File, error) {
	watched, err := Watch(path, func() (string, error) {
		content, err := Read(path, bytesMax)
		if err != nil {
			return "", err
		}
		secret := strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
		if check != nil {
			if err := check(secret); err != nil {
				return "", fmt.Errorf("file %s: %w", path, err)
			}
		}
		return secret, nil
	})
	if err != nil {
		return File{}, err
	}
	return File{path: path, watched: watched}, nil
}

// UnmarshalText implements encoding.TextUnmarshaler. An empty path is no file.
func (f *File) UnmarshalText(path []byte) (err error) {
	*f = File{}
	if len(path) > 0 {
		*f, err = Open(string(path), nil)
	}
	return err
}

// IsGiven reports whether there is a file.
func (f File) IsGiven() bool { return f.watched != nil }

// Current returns the last good content. The file is read again at most once a second.
func (f File) Current() string {
	if f.watched == nil {
		return ""
	}
	return f.watched.Current()
}

// LogTo makes faults of later reads go to the logger.
func (f File) LogTo(logger *slog.Logger) {
	if f.watched != nil {
		f.watched.LogTo(logger)
	}
}

// Warning returns a sentence if all users of the machine may read the file.
func (f File) Warning() string {
	if !f.IsGiven() || !readableByOthers(f.path) {
		return ""
	}
	return fmt.Sprintf("file %s: all users of this machine may read it (chmod o-r)", f.path)
}

// String returns the path.
func (f File) String() string { return f.path }

// GoString returns the path, for %#v, too.
func (f File) GoString() string { return f.path }

// MarshalText returns the path.
func (f File) MarshalText() ([]byte, error) { return []byte(f.path), nil }
