package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/paylatch/paylatch/test/harness"
)

// background is the context of work that must be done even if the run is interrupted. Each use has
// a bound of its own.
var background = context.Background()

// outage is a time in which PostgreSQL or a broker was down.
type outage struct{ from, to time.Time }

// injector injects the faults of a plan, and counts them.
type injector struct {
	*fleet
	postgres *postgres
	brokers  *harness.Kafka
	log      io.Writer
	began    time.Time

	// One outage of each at a time: replication 3 does not tolerate that two brokers are down.
	postgresHeld, brokerHeld chan struct{}

	mu       sync.Mutex
	fired    map[kind]int
	skipped  map[kind]int // There was no target, or the fault did not show.
	losses   []loss
	outages  []outage
	isolated isolations
	failures []string // Faults that could not be injected or healed: the run proves nothing.
}

func newInjector(f *fleet, p *postgres, k *harness.Kafka, log io.Writer) *injector {
	return &injector{
		fleet: f, postgres: p, brokers: k, log: log, began: time.Now(),
		fired: map[kind]int{}, skipped: map[kind]int{},
		postgresHeld: make(chan struct{}, 1), brokerHeld: make(chan struct{}, 1),
	}
}

// errNoTarget is the error of a fault for which there was no target.
var errNoTarget = errors.New("no target")

// run injects the faults of a plan at their times, and returns when all are healed. Faults may
// overlap. When ctx ends no more begin.
func (t *injector) run(ctx context.Context, faults []fault) {
	var group sync.WaitGroup
	defer group.Wait()
	for _, f := range faults {
		harness.Pause(ctx, time.Until(t.began.Add(f.at)))
		if ctx.Err() != nil {
			return
		}
		group.Go(func() {
			target, err := t.do(ctx, f)
			t.account(f, target, err)
		})
	}
}

// account counts and logs a fault.
func (t *injector) account(f fault, target string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case errors.Is(err, errNoTarget):
		t.skipped[f.kind]++
	case err != nil:
		t.skipped[f.kind]++
		t.failures = append(t.failures, fmt.Sprintf("fault %d, %s %s: %v", f.number, f.kind, target, err))
	default:
		t.fired[f.kind]++
	}
	_, _ = fmt.Fprintf(t.log, "%8.3f #%d %s: %s %v\n", time.Since(t.began).Seconds(), f.number, f.kind, target, err)
}

// do injects one fault, waits as long as it lasts, and heals it, also after ctx has ended. It
// returns what the fault hit.
func (t *injector) do(ctx context.Context, f fault) (target string, err error) {
	switch f.kind {
	case killed, stopped, zombie, restarted:
		slot, ok := t.takeProcess(ctx, f.victim)
		if !ok {
			return "", errNoTarget
		}
		defer t.release(slot, t.process)
		target, err = t.hitProcess(f, t.replicas[slot])
		return fmt.Sprintf("replica %d %s", slot, target), err
	case scaledDown, scaledUp:
		return t.scale(ctx, f)
	case postgresStopped:
		return t.down(ctx, t.postgresHeld, func() (string, error) { return "", t.postgres.crash(background, f.length) })
	case brokerKilled:
		return t.down(ctx, t.brokerHeld, func() (string, error) {
			broker, role := t.leader(f.victim)
			return fmt.Sprintf("broker %d, %s", broker+1, role), t.brokers.Crash(background, broker, f.length)
		})
	case postgresCut, postgresReset, postgresBlackhole, postgresLatency, postgresBandwidth:
		slot, ok := t.takeLink(ctx, f.victim, t.fleet.postgres)
		if !ok {
			return "", errNoTarget
		}
		defer t.release(slot, t.fleet.postgres)
		return fmt.Sprintf("replica %d", slot), degrade(f, []*harness.Link{t.replicas[slot].postgres()})
	default:
		slot, ok := t.takeLink(ctx, f.victim, t.kafka)
		if !ok {
			return "", errNoTarget
		}
		defer t.release(slot, t.kafka)
		links := t.replicas[slot].kafka()
		if f.isLong() {
			return t.isolate(f, slot, links)
		}
		if f.kind != kafkaIsolated {
			links = links[f.victim/len(t.replicas)%len(links):][:1] // To one broker.
		}
		return fmt.Sprintf("replica %d", slot), degrade(f, links)
	}
}

// leader returns the broker to kill: the leader of a partition of the topic, or the coordinator of
// some transactions. Without a leader it is any broker: all are up, so Crash reports what is wrong.
func (t *injector) leader(victim int) (broker int, role string) {
	topic, role := harness.Topic, "leader"
	if victim%2 == 1 {
		topic, role = harness.TransactionState, "coordinator"
	}
	broker, partition, err := t.brokers.Leader(background, topic, victim/2)
	if err != nil {
		return victim % len(t.brokers.Containers), err.Error()
	}
	return broker, fmt.Sprintf("%s of %s/%d", role, topic, partition)
}

// hitProcess injects a fault into one process.
func (t *injector) hitProcess(f fault, r *replica) (hit string, err error) {
	switch f.kind {
	case killed:
		return t.kill(f, r)
	case stopped:
		defer harness.Pause(background, 100*time.Millisecond)
		if err := r.Signal(syscall.SIGSTOP); err != nil {
			return "", err
		}
		harness.Pause(background, f.length)
		return f.length.String(), r.Signal(syscall.SIGCONT)
	case zombie:
		return t.zombie(f, r)
	default:
		if err := r.Stop(stopTimeout); err != nil {
			return "", err
		}
		defer harness.Pause(background, time.Second)
		return "", r.Start()
	}
}

// slow slows a replica's link to PostgreSQL down, unless another fault uses that link. This widens
// the window between the commits of Kafka and PostgreSQL. The returned function heals the link.
func (t *injector) slow(f fault, r *replica) (fast func() error, err error) {
	if !f.slow || !t.holdIfFree(r.slot, t.fleet.postgres) {
		return func() error { return nil }, nil
	}
	attributes := fmt.Sprintf(`"latency": %d, "jitter": %d`, slowLatencyMS, slowLatencyMS/3)
	if err := r.postgres().Poison("latency", 0, attributes); err != nil {
		t.release(r.slot, t.fleet.postgres)
		return nil, err
	}
	harness.Pause(background, 300*time.Millisecond+f.length/4)
	return func() error {
		defer t.release(r.slot, t.fleet.postgres)
		return r.postgres().Heal()
	}, nil
}

// uptimeMin is how long no fault hits a process after its start, so that it owns partitions again.
const uptimeMin = 1500 * time.Millisecond

// kill ends a process by SIGKILL, and starts it again some time after.
func (t *injector) kill(f fault, r *replica) (hit string, err error) {
	fast, err := t.slow(f, r)
	if err != nil {
		return "", err
	}
	owned, _ := t.postgres.ownedBy(background, r.slot) // None if PostgreSQL is down: then nothing is measured.
	at := time.Now()
	err = errors.Join(r.Kill(), fast())
	t.mu.Lock()
	t.losses = append(t.losses, loss{at: at, owned: slices.Sorted(maps.Keys(owned))})
	t.mu.Unlock()
	harness.Pause(background, f.length)
	defer harness.Pause(background, uptimeMin)
	return fmt.Sprintf("owned %v", slices.Sorted(maps.Keys(owned))), errors.Join(err, r.Start())
}

// zombieTimeout bounds the wait for another replica to acquire a zombie's partitions.
const zombieTimeout = 8 * time.Second

// zombie stops a process that owns partitions, ends its database sessions, waits until another
// replica has acquired them, and continues the process. It counts only if another one has.
func (t *injector) zombie(f fault, r *replica) (hit string, err error) {
	fast, err := t.slow(f, r)
	if err != nil {
		return "", err
	}
	if err := r.Signal(syscall.SIGSTOP); err != nil {
		return "", errors.Join(err, fast())
	}
	defer harness.Pause(background, 500*time.Millisecond)
	defer func() { err = errors.Join(err, fast(), r.Signal(syscall.SIGCONT)) }()
	owned, err := t.postgres.ownedBy(background, r.slot) // It is stopped, and acquires no more.
	if err != nil || len(owned) == 0 {
		return "owned nothing", errNoTarget
	}
	sessions, err := t.postgres.endSessions(background, r.slot)
	if err != nil {
		return "sessions not ended", errNoTarget
	}
	taken := 0
	for end := time.Now().Add(zombieTimeout); time.Now().Before(end) && taken < len(owned); {
		if n, err := t.postgres.takenOver(background, r.slot, owned); err == nil { // PostgreSQL may be down.
			taken = n
		}
		harness.Pause(background, 20*time.Millisecond)
	}
	hit = fmt.Sprintf("%d sessions ended, others acquired %d of %v", sessions, taken, slices.Sorted(maps.Keys(owned)))
	if taken == 0 {
		return hit, errNoTarget
	}
	return hit, nil
}

// scale stops two replicas at once, cleanly, or starts them again.
func (t *injector) scale(ctx context.Context, f fault) (hit string, err error) {
	slots, ok := t.takeTwo(ctx, f.victim, f.kind == scaledUp)
	if !ok {
		return "", errNoTarget
	}
	errs := make(chan error, len(slots))
	for _, slot := range slots {
		go func() {
			defer t.release(slot, t.process)
			if f.kind == scaledDown {
				errs <- t.replicas[slot].Stop(stopTimeout)
				return
			}
			errs <- t.replicas[slot].Start()
		}()
	}
	for range slots {
		err = errors.Join(err, <-errs)
	}
	return fmt.Sprint("replicas ", slots), err
}

// down makes an outage of PostgreSQL or of a broker, unless there is one already.
func (t *injector) down(ctx context.Context, held chan struct{}, crash func() (string, error)) (hit string, err error) {
	timer := time.NewTimer(targetTimeout)
	defer timer.Stop()
	select {
	case held <- struct{}{}:
	case <-timer.C:
		return "", errNoTarget
	case <-ctx.Done():
		return "", errNoTarget
	}
	defer func() { <-held }()
	from := time.Now()
	hit, err = crash()
	t.mu.Lock()
	t.outages = append(t.outages, outage{from, time.Now()})
	t.mu.Unlock()
	return fmt.Sprintf("%s back after %s", hit, time.Since(from).Round(time.Millisecond)), err
}

// isolations counts the long isolations that were judged, and those in which the replica released
// its partitions and acquired none.
type isolations struct{ judged, released int }

// settleTime is how long an isolated replica may still acquire a partition: Kafka responded to it a
// moment ago.
const settleTime = 5 * time.Second

// isolate cuts a replica off from Kafka, and watches which partitions it owns.
func (t *injector) isolate(f fault, slot int, links []*harness.Link) (hit string, err error) {
	over, watched := make(chan struct{}), make(chan bool, 1)
	go func() { watched <- t.releases(slot, over) }()
	err = degrade(f, links)
	close(over)
	released := <-watched
	t.mu.Lock()
	defer t.mu.Unlock()
	t.isolated.judged++
	if released {
		t.isolated.released++
	}
	return fmt.Sprintf("replica %d for %s, released its partitions: %t", slot, f.length, released), err
}

// releases reports whether a replica releases all partitions, and acquires none until over closes.
func (t *injector) releases(slot int, over <-chan struct{}) bool {
	harness.Pause(background, settleTime)
	released := false
	for {
		if owned, err := t.postgres.ownedBy(background, slot); err == nil { // PostgreSQL may be down.
			if len(owned) > 0 && released {
				return false
			}
			released = len(owned) == 0
		}
		select {
		case <-over:
			return released
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// degrade applies a fault to links, and heals them after its time.
func degrade(f fault, links []*harness.Link) error {
	if f.isLong() {
		f.kind, f.side = kafkaBlackhole, 2
	}
	var errs []error
	each := func(operation func(*harness.Link) error) {
		for _, l := range links {
			errs = append(errs, operation(l))
		}
	}
	switch f.kind {
	case postgresCut, kafkaCut, kafkaIsolated:
		each((*harness.Link).Cut)
		harness.Pause(background, f.length)
		each((*harness.Link).Mend)
		return errors.Join(errs...)
	case postgresReset, kafkaReset:
		each(func(l *harness.Link) error { return l.Poison("reset_peer", 0, `"timeout": 0`) })
	case postgresBlackhole, kafkaBlackhole:
		each(func(l *harness.Link) error { return l.Poison("timeout", f.side, `"timeout": 0`) })
	case postgresLatency, kafkaLatency:
		each(func(l *harness.Link) error {
			return l.Poison("latency", f.side, fmt.Sprintf(`"latency": %d, "jitter": %d`, f.amount, f.amount/3))
		})
	default:
		each(func(l *harness.Link) error { return l.Poison("bandwidth", f.side, fmt.Sprintf(`"rate": %d`, f.amount)) })
	}
	harness.Pause(background, f.length)
	each((*harness.Link).Heal)
	return errors.Join(errs...)
}

// heal starts what is still down. All faults have healed themselves, but scaling leaves replicas
// absent.
func (t *injector) heal() error {
	var errs []error
	for i, r := range t.replicas {
		if t.absent[i] {
			t.absent[i] = false
			errs = append(errs, r.Start())
		}
		for _, l := range r.links {
			errs = append(errs, l.Mend())
		}
	}
	return errors.Join(errs...)
}
