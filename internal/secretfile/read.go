package secretfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Read returns the content of a file of at most bytesMax bytes. Its errors name the path and never
// the content.
//
// The path is opened each time, and nothing is concluded from inode or time of change: Kubernetes
// replaces a directory behind a symbolic link, and an editor may keep both.
func Read(path string, bytesMax int64) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("file %s: %w", path, cause(err))
	case info.IsDir():
		return nil, fmt.Errorf("file %s: is a directory", path)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("file %s: is no regular file, and must be readable more than once", path)
	}
	f, err := os.Open(path) //nolint:gosec // The operator names the file.
	if err != nil {
		return nil, fmt.Errorf("file %s: %w", path, cause(err))
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, bytesMax+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("file %s: %w", path, cause(err))
	case int64(len(content)) > bytesMax:
		return nil, fmt.Errorf("file %s: is larger than %d bytes", path, bytesMax)
	case len(bytes.TrimSpace(content)) == 0:
		return nil, fmt.Errorf("file %s: is empty", path)
	}
	return content, nil
}

// cause returns what happened, without the path that a fs.PathError repeats.
func cause(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("does not exist")
	}
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	return err
}

// readableByOthers reports whether every user of the machine may read the file.
func readableByOthers(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Perm()&0o004 != 0
}
