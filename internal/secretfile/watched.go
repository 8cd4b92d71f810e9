package secretfile

import (
	"log/slog"
	"sync"
	"time"
)

// readEvery is the least time between two reads of a file. A file that changes is in use a second
// later, and a thousand connections in that second cost one read.
const readEvery = time.Second

// Watched keeps the last good result of a load function, which reads files. A load that fails
// leaves the result before it in use: a file that is being replaced may be missing, empty or half
// written for a moment. Each cause is logged once. Safe for concurrent use.
type Watched[T any] struct {
	name string
	load func() (T, error)
	now  func() time.Time

	mu     sync.Mutex
	good   T
	readAt time.Time
	fault  string // Of the last load; empty after a good one.
	logger *slog.Logger
}

// Watch loads for the first time, and returns the error of that. The name stands in the log.
func Watch[T any](name string, load func() (T, error)) (*Watched[T], error) {
	w := &Watched[T]{name: name, load: load, now: time.Now, logger: slog.New(slog.DiscardHandler)}
	var err error
	w.good, err = load()
	w.readAt = w.now()
	return w, err
}

// LogTo makes later faults go to the logger.
func (w *Watched[T]) LogTo(logger *slog.Logger) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.logger = logger
}

// Current loads again if the last load is readEvery old, and returns the last good result.
func (w *Watched[T]) Current() T {
	w.mu.Lock()
	defer w.mu.Unlock()
	// A clock that was set back must not stop the reads.
	if age := w.now().Sub(w.readAt); age >= 0 && age < readEvery {
		return w.good
	}
	w.readAt = w.now()
	loaded, err := w.load()
	if err != nil {
		w.note(err.Error())
		return w.good
	}
	if w.fault != "" {
		w.logger.Info("file in use again", "file", w.name)
	}
	w.good, w.fault = loaded, ""
	return w.good
}

// note logs a fault unless it is the one before.
func (w *Watched[T]) note(fault string) {
	if fault != w.fault {
		w.logger.Warn("file cannot be used, its last good content stays in use", "file", w.name, "error", fault)
	}
	w.fault = fault
}
