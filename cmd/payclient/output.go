package main

import (
	"errors"
	"io"
	"os"
)

// output is a file that is written at the end of a command, and opened at its begin: a wrong path
// must not cost a measurement.
type output struct {
	file *os.File
	// isNew reports that the file was created here.
	isNew bool
}

// openOutput opens a file without changing its content.
func openOutput(path string) (*output, error) {
	_, err := os.Stat(path)
	isNew := errors.Is(err, os.ErrNotExist)
	//nolint:gosec // G302, G304: the caller names the file, and a report is no secret.
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	return &output{file: file, isNew: isNew}, nil
}

// write replaces the content and closes the file.
func (o *output) write(content func(io.Writer) error) error {
	info, err := o.file.Stat()
	if err == nil && info.Mode().IsRegular() {
		err = o.file.Truncate(0)
	}
	if err == nil {
		err = content(o.file)
	}
	return errors.Join(err, o.file.Close())
}

// discard closes the file as it was, and removes it if it is new. A nil output has no file.
func (o *output) discard() error {
	if o == nil {
		return nil
	}
	err := o.file.Close()
	if o.isNew {
		err = errors.Join(err, os.Remove(o.file.Name()))
	}
	return err
}
