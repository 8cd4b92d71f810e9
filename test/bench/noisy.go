//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/paylatch/paylatch/internal/store"
)

// noisyTimes is how far beyond its limit the noisy tenant goes.
const noisyTimes = 10

// tenantLimit is each tenant's limit, in requests a second: what a customer needs that makes a
// million creates and ten million reads in a business day of eight hours. Ten times that is what
// this many customers bring together; it does not fill the machine, where no limit would help any
// more: to refuse is cheap, not free.
const tenantLimit = (1_000_000 + 10_000_000) / (8 * 60 * 60)

// measureNoisy compares a quiet tenant's 99th percentile, at half its limit, next to a noisy tenant
// with the same alone.
func measureNoisy(ctx context.Context, b *bench, short bool) (_ map[string]figures, err error) {
	l := lengthOf(short, length{5, 10 * time.Second}, length{3, 4 * time.Second})
	stored := storedOf(short)
	i, err := b.withStored(ctx, stored)
	if err != nil {
		return nil, err
	}
	noisyKey, err := i.anotherTenant(ctx, "noisy")
	if err != nil {
		return nil, err
	}
	service, err := b.startService(ctx, "api", i, "PAYLATCH_TENANT_RATE="+strconv.Itoa(tenantLimit))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, service.end()) }()
	quiet := order{
		APIKey: i.APIKey, Connections: openConnections, For: l.each, Creates: 1, Reads: 10, Stored: stored,
		Rate: tenantLimit / 2,
	}
	noisy := quiet
	noisy.APIKey, noisy.Rate, noisy.Refusals = noisyKey, tenantLimit*noisyTimes, true
	noisy.Creates, noisy.Reads = 1, 0 // A read of the other tenant's payment would get 404.
	alone := func(ctx context.Context) (result, error) { return b.load(ctx, service, quiet) }
	beside := func(ctx context.Context) (result, error) { return b.besideNoise(ctx, service, quiet, noisy) }
	// This run is not measured. It stores the parties of both tenants, as on any but the first day.
	if _, err := beside(ctx); err != nil {
		return nil, err
	}
	turns, err := alternate(ctx, l.turns, contender{"alone", alone}, contender{"beside", beside})
	if err != nil {
		return nil, err
	}
	f := turns.figures("beside", "alone", func(r result) float64 { return r.All.P99 })
	f.raw["limit_per_s"], f.raw["noisy_per_s"], f.raw["quiet_per_s"] = tenantLimit, noisy.Rate, quiet.Rate
	f.raw["noisy_refused_share"] = turns.median("beside",
		func(r result) float64 { return float64(r.Refused) / (noisy.Rate * l.each.Seconds()) })
	turns.latencies("beside", f.raw)
	turns.latencies("alone", f.raw)
	return map[string]figures{"noisy_p99": f}, nil
}

// besideNoise loads the service by both tenants and returns what became of the quiet one's
// requests. When the noisy one is refused nothing, its limit is not in force, and nothing was
// measured.
func (b *bench) besideNoise(ctx context.Context, service *server, quiet, noisy order) (result, error) {
	var ours, theirs result
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() (err error) { ours, err = b.load(ctx, service, quiet); return err })
	both.Go(func() (err error) { theirs, err = b.load(ctx, service, noisy); return err })
	if err := both.Wait(); err != nil {
		return ours, err
	}
	if theirs.Refused == 0 {
		return ours, fmt.Errorf("%d requests of a tenant at %d × its limit, want 429 to some of them, got none: "+
			"the limit is not in force", theirs.Done, noisyTimes)
	}
	ours.Refused = theirs.Refused
	return ours, nil
}

// anotherTenant makes a tenant next to the first, or another one of its name with a number.
func (i *installation) anotherTenant(ctx context.Context, name string) (apiKey string, err error) {
	s, err := store.Open(ctx, i.URL, 2)
	if err != nil {
		return "", err
	}
	defer s.Close()
	i.tenants++
	return i.addTenant(ctx, s, fmt.Sprintf("%s-%d", name, i.tenants))
}
