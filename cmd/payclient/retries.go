package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/paylatch/paylatch/client"
	"github.com/paylatch/paylatch/internal/progress"
)

// retriesInterval is the time between two lines about retries. Under load there are many of them.
const retriesInterval = time.Second

// retryPrinter prints the retries of all calls, so that a server that is down is not met by
// silence.
type retryPrinter struct {
	out io.Writer

	mu      sync.Mutex
	printed time.Time
	skipped int
}

// observe is an observer of attempts.
func (p *retryPrinter) observe(a client.Attempt) {
	if !a.Retry {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.printed) < retriesInterval {
		p.skipped++
		return
	}
	clearLine, more := "", ""
	if progress.Terminal(p.out) != nil {
		clearLine = progress.Clear
	}
	if p.skipped > 0 {
		more = fmt.Sprintf("; %d more since the last line", p.skipped)
	}
	reason, _, _ := strings.Cut(a.Err.Error(), "\n")
	fmt.Fprintf(p.out, "%spayclient: attempt %d to %s failed: %s; the next one follows in %.1f s%s\n",
		clearLine, a.Number, a.Server, reason, a.Pause.Seconds(), more)
	p.printed, p.skipped = time.Now(), 0
}
