package sender

import "context"

// marker waits for a transaction's marker while the next batch is claimed. The claim need not wait
// for it, and after it the marker is probably there.
type marker struct {
	done chan struct{}
	// err is the result, once done is closed.
	err    error
	cancel context.CancelFunc
}

// watchMarker starts to wait for the marker of the transaction that ends at the offset next.
func watchMarker(p Producer, next int64) *marker {
	ctx, cancel := context.WithCancel(context.Background()) // AwaitStable has a bound of its own.
	m := &marker{done: make(chan struct{}), cancel: cancel}
	go func() {
		defer close(m.done)
		m.err = p.AwaitStable(ctx, next)
	}()
	return m
}

// stop ends the wait, and returns when it no longer uses the producer.
func (m *marker) stop() {
	m.cancel()
	<-m.done
}
