package store_test

import (
	"context"
	"strconv"
	"testing"

	"github.com/paylatch/paylatch/internal/payment"
)

// callers is the number of concurrent callers in the benchmarks.
const callers = 64

// What a status costs this process (and its allocations; PostgreSQL's are its own), with callers at
// once.
func BenchmarkFind(b *testing.B) {
	f := newFixture(b, 4)
	var ids []payment.ID
	for n := range 1000 {
		stored, _, err := f.Create(b.Context(), f.payment("order-"+strconv.Itoa(n)))
		if err != nil {
			b.Fatal(err)
		}
		ids = append(ids, stored.ID)
	}
	f.each(b, func(ctx context.Context, n int) error {
		_, err := f.Find(ctx, f.tenant.TenantRef, ids[n%len(ids)])
		return err
	})
}

// What a create costs this process, likewise.
func BenchmarkCreate(b *testing.B) {
	f := newFixture(b, 4)
	f.each(b, func(ctx context.Context, n int) error {
		_, _, err := f.Create(ctx, f.payment("order-"+strconv.Itoa(n)))
		return err
	})
}

// each has the callers do the work, b.N times together.
func (f *fixture) each(b *testing.B, work func(ctx context.Context, n int) error) {
	numbers := make(chan int, callers)
	failed := make(chan error, callers)
	b.ReportAllocs()
	b.ResetTimer()
	for range callers {
		go func() {
			var err error
			for n := range numbers {
				if err == nil {
					err = work(b.Context(), n)
				}
			}
			failed <- err
		}()
	}
	for n := range b.N {
		numbers <- n
	}
	close(numbers)
	for range callers {
		if err := <-failed; err != nil {
			b.Fatal(err)
		}
	}
}
