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

// limitShare of the most that the service bears is each tenant's limit, so that the noisy one asks for all of it; the quiet one stays at half its limit.
const limitShare = 0.1

// measureNoisy compares a quiet tenant's 99th percentile beside a noisy one with the same alone.
func measureNoisy(ctx context.Context, b *bench, short bool) (_ map[string]figures, err error) {
	l := lengthOf(short, length{3, 20 * time.Second}, length{3, 4 * time.Second})
	stored := storedOf(short)
	i, err := b.withStored(ctx, stored)
	if err != nil {
		return nil, err
	}
	noisyKey, err := i.anotherTenant(ctx, "noisy")
	if err != nil {
		return nil, err
	}
	mix := order{APIKey: i.APIKey, Connections: connections, For: l.each / 2, Creates: 1, Reads: 10, Stored: stored}
	limit, err := b.limit(ctx, i, mix)
	if err != nil {
		return nil, err
	}
	service, err := b.startService(ctx, "api", i, "PAYLATCH_TENANT_RATE="+strconv.Itoa(limit))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, service.end()) }()
	quiet, noisy := mix, mix
	quiet.Connections, quiet.For, quiet.Rate = openConnections, l.each, float64(limit)/2
	noisy.APIKey, noisy.Connections, noisy.For, noisy.Rate, noisy.Refusals = noisyKey, openConnections, l.each, float64(limit*noisyTimes), true
	noisy.Creates, noisy.Reads = 1, 0 // A stored payment of the other tenant would be answered 404.
	beside := func(ctx context.Context) (result, error) { return b.besideNoise(ctx, service, quiet, noisy) }
	turns, err := alternate(ctx, l.turns,
		contender{"alone", func(ctx context.Context) (result, error) { return b.load(ctx, service, quiet) }}, contender{"beside", beside})
	if err != nil {
		return nil, err
	}
	f := turns.figures("beside", "alone", func(r result) float64 { return r.All.P99 })
	f.raw["limit_per_s"], f.raw["noisy_per_s"], f.raw["quiet_per_s"] = float64(limit), noisy.Rate, quiet.Rate
	f.raw["noisy_refused_share"] = turns.median("beside", func(r result) float64 { return float64(r.Refused) / (noisy.Rate * l.each.Seconds()) })
	turns.latencies("beside", f.raw)
	turns.latencies("alone", f.raw)
	return map[string]figures{"noisy_p99": f}, nil
}

// limit finds the limit of a tenant by what the service bears without one.
func (b *bench) limit(ctx context.Context, i *installation, mix order) (limit int, err error) {
	service, err := b.startService(ctx, "api", i)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, service.end()) }()
	most, err := b.most(ctx, service, mix)
	return max(1, int(limitShare*most)), err
}

// besideNoise loads the service by both tenants and returns what became of the quiet one's requests. When the noisy one is refused nothing, its limit is not in force, and
// nothing was measured.
func (b *bench) besideNoise(ctx context.Context, service *server, quiet, noisy order) (result, error) {
	var ours, theirs result
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() (err error) { ours, err = b.load(ctx, service, quiet); return err })
	both.Go(func() (err error) { theirs, err = b.load(ctx, service, noisy); return err })
	if err := both.Wait(); err != nil {
		return ours, err
	}
	if theirs.Refused == 0 {
		return ours, fmt.Errorf("%d requests of a tenant at %d × its limit, and none was answered 429: the limit is not in force", theirs.Done, noisyTimes)
	}
	ours.Refused = theirs.Refused
	return ours, nil
}

// anotherTenant makes a tenant beside the first, or another one of its name with a number.
func (i *installation) anotherTenant(ctx context.Context, name string) (apiKey string, err error) {
	s, err := store.Open(ctx, i.URL, 2)
	if err != nil {
		return "", err
	}
	defer s.Close()
	i.tenants++
	return i.addTenant(ctx, s, fmt.Sprintf("%s-%d", name, i.tenants))
}
