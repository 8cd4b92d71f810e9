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

// background is for what must be done even when the run is interrupted; each use has a bound of its own.
var background = context.Background()

// span of time in which PostgreSQL or a broker was down.
type outage struct{ from, to time.Time }

// tormentor does what a plan says, and keeps account of it.
type tormentor struct {
	*fleet
	postgres *postgres
	brokers  *harness.Kafka
	log      io.Writer
	began    time.Time

	// One outage of each at a time: a second broker down would be more than replication 3 bears.
	postgresHeld, brokerHeld chan struct{}

	mu       sync.Mutex
	fired    map[kind]int
	skipped  map[kind]int // Nobody could be hit, or the fault could not be seen to have worked.
	losses   []loss
	outages  []outage
	isolated isolations
	failures []string // Faults that could not be healed: the run is of no use.
}

func newTormentor(f *fleet, p *postgres, k *harness.Kafka, log io.Writer) *tormentor {
	return &tormentor{
		fleet: f, postgres: p, brokers: k, log: log, began: time.Now(), fired: map[kind]int{}, skipped: map[kind]int{},
		postgresHeld: make(chan struct{}, 1), brokerHeld: make(chan struct{}, 1),
	}
}

// errNobody says that a fault found nobody to hit.
var errNobody = errors.New("nobody to hit")

// run does the faults of a plan at their times, overlapping as they do, and returns when all are healed. When ctx ends no more begin.
func (t *tormentor) run(ctx context.Context, faults []fault) {
	var group sync.WaitGroup
	defer group.Wait()
	for _, f := range faults {
		harness.Pause(ctx, time.Until(t.began.Add(f.at)))
		if ctx.Err() != nil {
			return
		}
		group.Go(func() {
			hit, err := t.do(ctx, f)
			t.account(f, hit, err)
		})
	}
}

// account counts a fault and writes it down.
func (t *tormentor) account(f fault, hit string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case errors.Is(err, errNobody):
		t.skipped[f.kind]++
	case err != nil:
		t.skipped[f.kind]++
		t.failures = append(t.failures, fmt.Sprintf("fault %d, %s %s: %v", f.number, f.kind, hit, err))
	default:
		t.fired[f.kind]++
	}
	_, _ = fmt.Fprintf(t.log, "%8.3f #%d %s: %s %v\n", time.Since(t.began).Seconds(), f.number, f.kind, hit, err)
}

// do makes one fault happen, waits for as long as it lasts, and heals it. Healing does not stop when ctx ends.
func (t *tormentor) do(ctx context.Context, f fault) (hit string, err error) {
	switch f.kind {
	case killed, stopped, zombie, restarted:
		slot, ok := t.takeProcess(ctx, f.victim)
		if !ok {
			return "", errNobody
		}
		defer t.release(slot, t.process)
		hit, err = t.strike(f, t.replicas[slot])
		return fmt.Sprintf("replica %d %s", slot, hit), err
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
			return "", errNobody
		}
		defer t.release(slot, t.fleet.postgres)
		return fmt.Sprintf("replica %d", slot), bend(f, []*harness.Link{t.replicas[slot].postgres()})
	default:
		slot, ok := t.takeLink(ctx, f.victim, t.kafka)
		if !ok {
			return "", errNobody
		}
		defer t.release(slot, t.kafka)
		links := t.replicas[slot].kafka()
		if f.isLong() {
			return t.isolate(f, slot, links)
		}
		if f.kind != kafkaIsolated {
			links = links[f.victim/len(t.replicas)%len(links):][:1] // To one broker.
		}
		return fmt.Sprintf("replica %d", slot), bend(f, links)
	}
}

// leader returns the broker to kill: the leader of a partition of the topic, or the coordinator of
// some transactions. Without a leader it is any broker: all are up, so Crash reports what is wrong.
func (t *tormentor) leader(victim int) (broker int, role string) {
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

// strike is a fault of one process.
func (t *tormentor) strike(f fault, r *replica) (hit string, err error) {
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

// slow widens a replica's window, if nobody else bends that link; the returned function takes it back.
func (t *tormentor) slow(f fault, r *replica) (fast func() error, err error) {
	if !f.slow || !t.holdIfFree(r.slot, t.fleet.postgres) {
		return func() error { return nil }, nil
	}
	if err := r.postgres().Poison("latency", 0, fmt.Sprintf(`"latency": %d, "jitter": %d`, slowLatency, slowLatency/3)); err != nil {
		t.release(r.slot, t.fleet.postgres)
		return nil, err
	}
	harness.Pause(background, 300*time.Millisecond+f.length/4)
	return func() error {
		defer t.release(r.slot, t.fleet.postgres)
		return r.postgres().Heal()
	}, nil
}

// restMin is how long a process is let live after its start, so that it has partitions again when the next fault finds it.
const restMin = 1500 * time.Millisecond

// kill ends a process, and starts another in its place some time after.
func (t *tormentor) kill(f fault, r *replica) (hit string, err error) {
	fast, err := t.slow(f, r)
	if err != nil {
		return "", err
	}
	owned, _ := t.postgres.ownedBy(background, r.slot) // Unknown when PostgreSQL is down: then it is no measurement.
	at := time.Now()
	err = errors.Join(r.Kill(), fast())
	t.mu.Lock()
	t.losses = append(t.losses, loss{at: at, owned: slices.Sorted(maps.Keys(owned))})
	t.mu.Unlock()
	harness.Pause(background, f.length)
	defer harness.Pause(background, restMin)
	return fmt.Sprintf("owned %v", slices.Sorted(maps.Keys(owned))), errors.Join(err, r.Start())
}

// zombieMax bounds the wait for another replica to take over from a zombie.
const zombieMax = 8 * time.Second

// zombie stops a process that owns partitions, ends its database sessions, waits until another replica has taken over from it, and lets it go on. It has fired
// only if one has.
func (t *tormentor) zombie(f fault, r *replica) (hit string, err error) {
	fast, err := t.slow(f, r)
	if err != nil {
		return "", err
	}
	if err := r.Signal(syscall.SIGSTOP); err != nil {
		return "", errors.Join(err, fast())
	}
	defer harness.Pause(background, 500*time.Millisecond)
	defer func() { err = errors.Join(err, fast(), r.Signal(syscall.SIGCONT)) }()
	owned, err := t.postgres.ownedBy(background, r.slot) // It is stopped: it takes no more.
	if err != nil || len(owned) == 0 {
		return "owned nothing", errNobody
	}
	sessions, err := t.postgres.endSessions(background, r.slot)
	if err != nil {
		return "sessions not ended", errNobody
	}
	taken := 0
	for end := time.Now().Add(zombieMax); time.Now().Before(end) && taken < len(owned); harness.Pause(background, 20*time.Millisecond) {
		if n, err := t.postgres.takenOver(background, r.slot, owned); err == nil { // Other faults may keep PostgreSQL away.
			taken = n
		}
	}
	hit = fmt.Sprintf("%d sessions ended, others took over %d of %v", sessions, taken, slices.Sorted(maps.Keys(owned)))
	if taken == 0 {
		return hit, errNobody
	}
	return hit, nil
}

// scale ends two replicas at once, cleanly, or brings them back.
func (t *tormentor) scale(ctx context.Context, f fault) (hit string, err error) {
	slots, ok := t.takeTwo(ctx, f.victim, f.kind == scaledUp)
	if !ok {
		return "", errNobody
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

// down is an outage of PostgreSQL or of a broker.
func (t *tormentor) down(ctx context.Context, held chan struct{}, crash func() (string, error)) (hit string, err error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case held <- struct{}{}:
	case <-timer.C:
		return "", errNobody
	case <-ctx.Done():
		return "", errNobody
	}
	defer func() { <-held }()
	from := time.Now()
	hit, err = crash()
	t.mu.Lock()
	t.outages = append(t.outages, outage{from, time.Now()})
	t.mu.Unlock()
	return fmt.Sprintf("%s back after %s", hit, time.Since(from).Round(time.Millisecond)), err
}

// isolations counts the long ones that were judged, and those in which the replica let go of its partitions for good.
type isolations struct{ judged, letGo int }

// settled is the time in which a replica that is just being cut off may still take a partition, since Kafka answered it a moment ago.
const settled = 5 * time.Second

// isolate has Kafka answer a replica no more, and watches what it owns meanwhile.
func (t *tormentor) isolate(f fault, slot int, links []*harness.Link) (hit string, err error) {
	over, watched := make(chan struct{}), make(chan bool, 1)
	go func() { watched <- t.letsGo(slot, over) }()
	err = bend(f, links)
	close(over)
	letGo := <-watched
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.isolated.judged++; letGo {
		t.isolated.letGo++
	}
	return fmt.Sprintf("replica %d for %s, let go of its partitions: %t", slot, f.length, letGo), err
}

// letsGo tells whether a replica comes to own nothing, and owns nothing from then on until it is over.
func (t *tormentor) letsGo(slot int, over <-chan struct{}) bool {
	harness.Pause(background, settled)
	letGo := false
	for {
		if owned, err := t.postgres.ownedBy(background, slot); err == nil { // PostgreSQL may be away.
			if len(owned) > 0 && letGo {
				return false
			}
			letGo = len(owned) == 0
		}
		select {
		case <-over:
			return letGo
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// bend makes links worse for a while.
func bend(f fault, links []*harness.Link) error {
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

// heal brings back what is still away. All faults have healed themselves; only scaling leaves replicas absent.
func (t *tormentor) heal() error {
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
