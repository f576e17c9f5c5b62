package scheduler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/evidence/sink"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/tempoclient/blocks"
)

// SingleTenant is the folder of a Tempo without tenants. Its violations have an empty tenant.
const SingleTenant = "single-tenant"

// ServiceOptions configure the service.
type ServiceOptions struct {
	// State and Key are required. The service does not close the state.
	State *state.DB
	Key   *evidence.Key
	// Store is the storage of the blocks. If it is nil, ReadWindow reads traces by Tempo's API. Source is the name of
	// either in ledgers.
	Store      *blocks.Store
	ReadWindow ReadWindowFunc
	Source     string
	Sweeps     []Sweep
	Rules      rules.Options
	// Sinks returns the sinks of a tenant. SinkNames are their names. If there are none, violations are only in the
	// state.
	Sinks     func(tenant string) ([]sink.EntrySink, error)
	SinkNames []string
	// Send writes the canaries of the sweeps. It is required if a sweep has some.
	Send SendFunc
	// OutboxItems is the number of undelivered items at which sweeps pause. The default is 1,000,000.
	OutboxItems int
	// ResendAfter is the time after which an item that a sink does not have is sent again. The default is
	// [DefaultResendAfter].
	ResendAfter time.Duration
	// MaxTraceDuration is the maximum duration of a trace. The default is 1 h.
	MaxTraceDuration time.Duration
	// MemoryBytes is [blocks.Request].MemoryBytes.
	MemoryBytes int64
	// CompactedRetention is the time for which Tempo keeps compacted blocks. The default is
	// [blocks.CompactedRetention].
	CompactedRetention time.Duration
	// Retention, if not nil, returns the time for which Tempo keeps the blocks of a tenant; 0 is unknown, or forever.
	Retention func(tenant string) time.Duration
	// Engine is the version of BeTrace.
	Engine string
	// Tracer, if not nil, traces ticks and deliveries.
	Tracer trace.Tracer
	// Now returns the time. The default is time.Now.
	Now        func() time.Time
	Log        *slog.Logger
	Registerer prometheus.Registerer
	// Step, if not nil, is called at each step of a tick, of a delivery and of the start. Tests end the process there.
	Step func(name string)
}

// Service judges the traces that Tempo stores, on schedule, and delivers the violations.
type Service struct {
	state              *state.DB
	key                *evidence.Key
	store              *blocks.Store
	source             string
	sweeps             []Sweep
	sinkNames          []string
	send               SendFunc
	readWindow         ReadWindowFunc
	outboxItems        int
	maxTraceDuration   time.Duration
	memoryBytes        int64
	compactedRetention time.Duration
	retention          func(tenant string) time.Duration
	engine             string
	now                func() time.Time
	log                *slog.Logger
	metrics            *metrics
	health             *stateHealth
	step               func(string)
	outbox             *outbox
	rules              *ruleLoader
	wake               chan struct{}
	mu                 sync.Mutex
	runNow             map[string]bool    // sweeps to run at once
	memories           map[string]*memory // by pass
	plans              []sharedPlan
	claims             *claims
	tracer             trace.Tracer
	judging            chan struct{} // holds an element for each tick that judges
	tenants            atomic.Int64  // of the passes
	storageIsEmpty     atomic.Bool   // by the last list of tenants
}

// New returns a service. It makes no request.
func New(opts ServiceOptions) (*Service, error) {
	if err := CheckSweeps(opts.Sweeps); err != nil {
		return nil, err
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Tracer == nil {
		opts.Tracer = noop.NewTracerProvider().Tracer("")
	}
	if opts.Step == nil {
		opts.Step = func(string) {}
	}
	if opts.Retention == nil {
		opts.Retention = func(string) time.Duration { return 0 }
	}
	if opts.Registerer == nil {
		opts.Registerer = prometheus.NewRegistry()
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	m := newMetrics(opts.Registerer)
	promauto.With(opts.Registerer).NewCounterFunc(prometheus.CounterOpts{Name: "betrace_state_commits_total", Help: "Transactions that changed the state."},
		func() float64 { return float64(opts.State.Commits()) })
	m.configSuccess.Set(1)
	claims := newClaims(opts.State, opts.Log)
	health := &stateHealth{count: m.stateErrors, failed: map[string]error{}}
	return &Service{
		state: opts.State, key: opts.Key, store: opts.Store, source: opts.Source, sweeps: opts.Sweeps, sinkNames: opts.SinkNames, send: opts.Send, readWindow: opts.ReadWindow,
		outboxItems: cmp.Or(opts.OutboxItems, 1_000_000), maxTraceDuration: cmp.Or(opts.MaxTraceDuration, time.Hour), memoryBytes: opts.MemoryBytes,
		compactedRetention: cmp.Or(opts.CompactedRetention, blocks.CompactedRetention), retention: opts.Retention, engine: opts.Engine,
		now: opts.Now, log: opts.Log, metrics: m, health: health, step: opts.Step,
		claims: claims, tracer: opts.Tracer,
		outbox: &outbox{
			claims: claims, tracer: opts.Tracer, state: opts.State, sinksOf: func(tenant string) ([]sink.EntrySink, error) { return opts.Sinks(resultsTenant(opts.Sweeps, tenant)) }, resendAfter: cmp.Or(opts.ResendAfter, DefaultResendAfter), now: opts.Now,
			log: opts.Log, metrics: m, health: health, step: opts.Step, wake: make(chan struct{}, 1),
		},
		rules: &ruleLoader{options: opts.Rules, state: opts.State, now: opts.Now, log: opts.Log, sets: map[string]*ruleSet{}, files: map[string]*ruleSet{}, posted: map[string][]string{}},
		wake:  make(chan struct{}, 1), runNow: map[string]bool{}, memories: map[string]*memory{},
		judging: make(chan struct{}, runtime.GOMAXPROCS(0)),
	}, nil
}

// memory is what the service remembers of a pass between its ticks. Only the turn of the pass uses it.
type memory struct {
	retryAt  time.Time // the last ticks failed
	failures int       // in sequence
	due      time.Time // since when a tick is due, but the tenant has not had its turn
	dueAfter time.Time // the tick before that one
	rest     time.Time // when a tick was scheduled that left blocks to the next one
	stated   time.Time // when the coverage was last stated
	recent   time.Time // up to which recent traces were judged by the API
	compiled passPlan
	refused  map[string]string // the problems of packs that entries have, by sweep
}

func (s *Service) memoryOf(p *pass) *memory {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.memories[p.key()]
	if m == nil {
		m = &memory{refused: map[string]string{}}
		s.memories[p.key()] = m
	}
	return m
}

// key identifies a pass.
func (p *pass) key() string { return p.tenant + " " + p.schedule().String() }

// evidenceTenant returns the tenant of violations and entries for a folder of the storage.
func evidenceTenant(folder string) string {
	if folder == SingleTenant {
		return ""
	}
	return folder
}

// rulesPoll is the time after which the rule packs are read again between ticks.
const rulesPoll = 10 * time.Second

// passes lists the tenants of the storage, if a sweep reads all of them, and returns the passes.
func (s *Service) passes(ctx context.Context) ([]*pass, error) {
	names := map[string]bool{}
	for i := range s.sweeps {
		for _, tenant := range s.sweeps[i].Tenants {
			if tenant != AllTenants {
				names[tenant] = true
				continue
			}
			if s.store == nil { // the API cannot list tenants
				names[SingleTenant] = true
				continue
			}
			listing, cancel := context.WithTimeoutCause(ctx, listTimeout, errors.New("the storage does not answer"))
			found, err := s.store.Tenants(listing)
			cancel()
			if err != nil {
				return nil, err
			}
			isEmpty := len(found) == 0
			if s.storageIsEmpty.Swap(isEmpty) != isEmpty {
				if isEmpty {
					s.log.WarnContext(ctx, "the storage has no tenant; nothing is judged until it has one", "storage", s.source)
				}
			}
			for _, name := range found {
				names[name] = true
			}
		}
	}
	return passesOf(s.sweeps, slices.Sorted(maps.Keys(names))), nil
}

// runPass runs a tick of a pass if one is due, and returns the time of the next one. That is now if the tick left blocks. An
// error is one of the state: others are recorded, and the tick is repeated.
func (s *Service) runPass(ctx context.Context, p *pass) (next time.Time, err error) {
	m := s.memoryOf(p)
	key := p.key()
	p, states, err := s.running(ctx, p)
	if err != nil {
		return time.Time{}, err
	}
	if p == nil {
		s.health.report(key, nil)
		return time.Time{}, nil
	}
	now := s.now()
	last := states[0].LastTick
	for _, st := range states[1:] {
		last = later(last, st.LastTick)
	}
	scheduled, missed := now, 0
	switch {
	case !m.rest.IsZero():
		scheduled = m.rest
	case !last.IsZero():
		scheduled, missed = p.schedule().Due(last, now.Add(-p.delay()))
	}
	runNow := s.takeRunNow(p)
	if runNow && scheduled.IsZero() {
		scheduled = now
	}
	if scheduled.IsZero() {
		m.due = time.Time{}
		return p.schedule().Next(last).Add(p.delay()), nil
	}
	if m.retryAt.After(now) {
		return m.retryAt, nil
	}
	if m.due.IsZero() || !m.dueAfter.Equal(last) {
		m.due, m.dueAfter = now, last
	}
	switch mine, err := s.claims.take(ctx, tenantWork(p.tenant), runNow || now.Sub(m.due) >= lateAfter); {
	case err != nil:
		return time.Time{}, err
	case !mine:
		for _, sweep := range p.sweeps { // posts the packs if they changed
			if _, err := s.rulesOf(ctx, sweep); err != nil {
				s.log.ErrorContext(ctx, "packs cannot be used", "error", err)
			}
		}
		return now.Add(lateAfter), nil
	}
	t, err := s.tick(ctx, p, scheduled, missed)
	m.due = time.Time{}
	switch {
	case ctx.Err() != nil:
		return time.Time{}, context.Cause(ctx)
	case errors.Is(err, state.ErrClaimLost):
		s.log.InfoContext(ctx, "another replica has taken over the tenant; the tick changed nothing", "tenant", p.tenant)
		m.rest = time.Time{}
		return now.Add(lateAfter), nil
	case err != nil:
		return s.tickFailed(ctx, p, err)
	}
	s.health.report(key, nil)
	m.retryAt, m.failures, m.rest = time.Time{}, 0, time.Time{}
	if t.limited {
		m.rest = scheduled
		return now, nil
	}
	return p.schedule().Next(later(scheduled, now.Add(-p.delay()))).Add(p.delay()), nil
}

// running returns the pass without its paused sweeps, and their states. The pass is nil if all are paused.
func (s *Service) running(ctx context.Context, p *pass) (*pass, []state.SweepState, error) {
	running := &pass{tenant: p.tenant}
	var states []state.SweepState
	for _, sweep := range p.sweeps {
		all, err := s.state.Sweep(ctx, sweep.Name, AllTenants)
		if err != nil {
			return nil, nil, err
		}
		value := 0.0
		if all.Paused {
			value = 1
		}
		s.metrics.paused.WithLabelValues(sweep.Name, p.tenant).Set(value)
		if all.Paused {
			continue
		}
		st, err := s.state.Sweep(ctx, sweep.Name, p.tenant)
		if err != nil {
			return nil, nil, err
		}
		running.sweeps, states = append(running.sweeps, sweep), append(states, st)
	}
	if len(running.sweeps) == 0 {
		return nil, nil, nil
	}
	return running, states, nil
}

// takeRunNow reports whether a sweep of the pass was asked to run at once, and forgets it.
func (s *Service) takeRunNow(p *pass) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	any := false
	for _, sweep := range p.sweeps {
		key := sweep.Name + " " + p.tenant
		any = any || s.runNow[key]
		delete(s.runNow, key)
	}
	return any
}

// tickFailed records a failed tick, and returns the time at which it is tried again.
func (s *Service) tickFailed(ctx context.Context, p *pass, failure error) (time.Time, error) {
	name := strings.Join(p.names(), ",")
	s.metrics.tickFailures.WithLabelValues(name, p.tenant).Inc()
	m := s.memoryOf(p)
	m.failures++
	most, ofState := maxBackoff, error(nil)
	if state.IsDatabaseError(failure) {
		most, ofState = maxStateBackoff, fmt.Errorf("sweep %s, tenant %s: %w", name, p.tenant, failure)
	}
	s.health.report(p.key(), ofState)
	retry := s.now().Add(backoff(m.failures, 5*time.Second, most))
	m.retryAt = retry
	s.log.ErrorContext(ctx, "tick failed; nothing was changed", "sweep", name, "tenant", p.tenant, "next_attempt", retry, "error", failure)
	err := s.state.Write(ctx, func(ctx context.Context, tx *state.Tx) error {
		if err := s.claims.keep(ctx, tx, tenantWork(p.tenant), false); err != nil {
			return err
		}
		for _, sweep := range p.sweeps {
			st, err := tx.Sweep(ctx, sweep.Name, p.tenant)
			if err != nil {
				return err
			}
			st.LastError, st.LastErrorAt = failure.Error(), s.now()
			if err := tx.PutSweep(ctx, st); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.log.ErrorContext(ctx, "the failure cannot be recorded", "error", err)
	}
	return retry, nil
}

// errOutboxFull pauses sweeps until the sinks have received enough.
var errOutboxFull = errors.New("the outbox is full: the sweep is paused until the sinks accept its items; see the errors of the sinks, or raise outbox.max_items")

// tick runs one tick and signals the outbox.
func (s *Service) tick(ctx context.Context, p *pass, scheduled time.Time, missed int) (*tick, error) {
	depths, err := s.state.Outbox(ctx)
	if err != nil {
		return nil, err
	}
	for name, d := range depths {
		if d.Items >= s.outboxItems {
			return nil, fmt.Errorf("%s: %d items wait: %w", name, d.Items, errOutboxFull)
		}
	}
	t := &tick{Service: s, memory: s.memoryOf(p), pass: p, tenant: evidenceTenant(p.tenant), scheduled: scheduled, missed: missed}
	err = traced(ctx, s.tracer, "tick", t.run, attribute.StringSlice("betrace.sweeps", p.names()), attribute.String("betrace.tenant", p.tenant), attribute.Int("betrace.missed_ticks", missed))
	if err != nil {
		return nil, err
	}
	s.outbox.signal()
	t.reportMetrics(ctx)
	if !t.limited { // else the blocks come first
		s.runRecent(ctx, p, scheduled)
	}
	return t, s.sendCanaries(ctx, t)
}

// rulesOf returns the rules of a sweep.
func (s *Service) rulesOf(ctx context.Context, sweep *Sweep) (*ruleSet, error) {
	set, changed, err := s.rules.load(ctx, sweep)
	m := s.metrics
	if err != nil {
		m.reloadSuccess.WithLabelValues(sweep.Name).Set(0)
		return nil, err
	}
	if changed {
		m.reloads.WithLabelValues(sweep.Name).Inc()
		m.reloadTime.WithLabelValues(sweep.Name).Set(seconds(s.now()))
	}
	m.rulesLoaded.WithLabelValues(sweep.Name).Set(float64(len(set.rules)))
	m.ruleProblems.WithLabelValues(sweep.Name).Set(float64(len(set.problems)))
	success := 1.0
	if len(set.problems) > 0 {
		success = 0
	}
	m.reloadSuccess.WithLabelValues(sweep.Name).Set(success)
	return set, nil
}

// ledgerOf returns the ledger of a pass, which it creates for a new one. If the ledger of a sweep is in use by another
// pass, because its schedule was changed, the pass continues with a copy.
func (s *Service) ledgerOf(ctx context.Context, p *pass) (state.Ledger, error) {
	ledger, isReady, err := s.findLedger(ctx, s.state, p)
	if err == nil && !isReady {
		err = s.state.Write(ctx, func(ctx context.Context, tx *state.Tx) (err error) {
			if err := s.claims.keep(ctx, tx, tenantWork(p.tenant), false); err != nil {
				return err
			}
			ledger, err = s.takeLedger(ctx, tx, p)
			return err
		})
	}
	if err != nil {
		return state.Ledger{}, err
	}
	ledger.Schedule = p.schedule().String()
	return ledger, nil
}

// ledgerReader is the part of the state and of a transaction that has ledgers.
type ledgerReader interface {
	Sweep(ctx context.Context, sweep, tenant string) (state.SweepState, error)
	Ledger(ctx context.Context, id int64) (state.Ledger, error)
}

// findLedger returns the ledger of the first sweep of a pass that has one. It reports whether the ledger is that of all
// its sweeps, and of no other pass.
func (s *Service) findLedger(ctx context.Context, from ledgerReader, p *pass) (ledger state.Ledger, isReady bool, err error) {
	isReady = true
	for _, sweep := range p.sweeps {
		st, err := from.Sweep(ctx, sweep.Name, p.tenant)
		if err != nil {
			return state.Ledger{}, false, err
		}
		if ledger.ID == 0 && st.Ledger != 0 {
			l, err := from.Ledger(ctx, st.Ledger)
			if err != nil {
				return state.Ledger{}, false, err
			}
			if l.Source == s.source && l.Tenant == p.tenant {
				ledger = l
			}
		}
		isReady = isReady && st.Ledger == ledger.ID
	}
	if !isReady || ledger.ID == 0 {
		return ledger, false, nil
	}
	shared, err := s.isShared(ctx, from, ledger.ID, p)
	return ledger, !shared, err
}

// isShared reports whether a pass with another schedule has the ledger, too: the schedule of one of its sweeps was changed.
func (s *Service) isShared(ctx context.Context, from ledgerReader, ledger int64, p *pass) (bool, error) {
	for i := range s.sweeps {
		other := &s.sweeps[i]
		if !other.reads(p.tenant) || other.Schedule.String() == p.schedule().String() {
			continue
		}
		st, err := from.Sweep(ctx, other.Name, p.tenant)
		if err != nil {
			return false, err
		}
		if st.Ledger == ledger {
			return true, nil
		}
	}
	return false, nil
}

// takeLedger makes a ledger that of all sweeps of a pass: the one that [Service.findLedger] finds, a copy of it, or a new one.
func (s *Service) takeLedger(ctx context.Context, tx *state.Tx, p *pass) (state.Ledger, error) {
	ledger, _, err := s.findLedger(ctx, tx, p)
	if err != nil {
		return state.Ledger{}, err
	}
	shared, err := s.isShared(ctx, tx, ledger.ID, p)
	switch {
	case err != nil:
		return state.Ledger{}, err
	case ledger.ID == 0:
		ledger = state.Ledger{Tenant: p.tenant, Source: s.source, Schedule: p.schedule().String(), Begins: s.now().UTC().Add(-p.sweeps[0].Start)}
		ledger.Watermark = ledger.Begins
		ledger.ID, err = tx.CreateLedger(ctx, ledger)
	case shared:
		ledger.ID, err = tx.CopyLedger(ctx, ledger.ID)
	}
	if err != nil {
		return state.Ledger{}, err
	}
	for _, sweep := range p.sweeps {
		st, err := tx.Sweep(ctx, sweep.Name, p.tenant)
		if err != nil {
			return state.Ledger{}, err
		}
		st.Ledger = ledger.ID
		if err := tx.PutSweep(ctx, st); err != nil {
			return state.Ledger{}, err
		}
	}
	return ledger, nil
}

// Once is the result of [Service.Once].
type Once struct {
	// Ticks counts the ticks that were committed, and Violations the violations that they found.
	Ticks, Violations int
	// Problems are the incomplete parts, one sentence each.
	Problems []string
}

// Once runs each sweep once, now, until nothing is left to judge, and delivers the items until the sinks have them or
// the context of deliveries ends. Sweeps that fail are problems.
func (s *Service) Once(ctx context.Context, deliverFor time.Duration) (Once, error) {
	var once Once
	if s.claims != nil {
		beats, stop := context.WithCancel(ctx)
		var beating sync.WaitGroup
		beating.Go(func() { _ = s.claims.run(beats) }) // it returns nil
		defer func() {
			stop()
			beating.Wait()
			s.claims.leave(ctx)
		}()
	}
	passes, err := s.passes(ctx)
	if err != nil {
		return once, err
	}
	if len(passes) == 0 {
		once.Problems = append(once.Problems, fmt.Sprintf("the storage %s has no tenant", s.source))
	}
	for _, p := range passes {
		mine, err := s.claims.take(ctx, tenantWork(p.tenant), true)
		if err != nil {
			return once, err
		}
		if !mine {
			once.Problems = append(once.Problems, fmt.Sprintf("tenant %s: another replica is judging its traces", p.tenant))
			continue
		}
		for limited := true; limited; {
			t, err := s.tick(ctx, p, s.now(), 0)
			if ctx.Err() != nil {
				return once, context.Cause(ctx)
			}
			if err != nil {
				once.Problems = append(once.Problems, fmt.Sprintf("sweep %s, tenant %s: %v", strings.Join(p.names(), ","), p.tenant, err))
				break
			}
			once.Ticks++
			once.Violations += len(t.violations) + t.countCapped()
			once.Problems = append(once.Problems, t.problems()...)
			limited = t.limited
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, deliverFor, fmt.Errorf("the sinks did not have everything within %s", deliverFor))
	defer cancel()
	if err := s.outbox.drain(ctx); err != nil {
		once.Problems = append(once.Problems, "deliveries: "+err.Error())
	}
	return once, nil
}
