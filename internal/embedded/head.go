package embedded

import (
	"io"
	"sync"
)

// head passes a log on and keeps the first part of it, to explain with why a server did not start.
// A server that has started may log for weeks: what exceeds the bound is passed on and not kept.
type head struct {
	to io.Writer

	mu   sync.Mutex
	kept []byte
}

const keptMax = 64 << 10

// Write never fails: the reader of our log may be gone, and the server must not notice.
func (t *head) Write(p []byte) (int, error) {
	_, _ = t.to.Write(p)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p[:min(len(p), keptMax-len(t.kept))]...)
	return len(p), nil
}

func (t *head) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.kept)
}

func (t *head) relevantLine() string { return lastRelevantLine(t.text()) }
