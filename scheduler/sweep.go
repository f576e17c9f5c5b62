package scheduler

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Sweep judges the traces of some tenants on a schedule.
type Sweep struct {
	// Name identifies the sweep in state, metrics and records.
	Name     string
	Schedule *Schedule
	// Tenants are the tenants to read. "*" is every tenant of the storage.
	Tenants []string
	// Packs are files and folders with rule packs.
	Packs []string
	// Select, if not nil, selects rules of the packs.
	Select *Selector
	// Jitter is the longest time by which a tick is later than scheduled. Each tenant has its own part of it, which is
	// always the same, so that the ticks of many tenants do not begin at once.
	Jitter time.Duration
	// ResultsTenant, if not empty, is the tenant of Tempo and Loki that receives the results, instead of the tenant of
	// the traces.
	ResultsTenant string
	// Canary is the time between two canaries, and Seeded that between two seeded violations: traces that the sweep writes to
	// Tempo and must find again. 0 is none.
	Canary, Seeded time.Duration
	// Start is the age of the oldest data that a new sweep judges.
	Start time.Duration
	// Settle is the time for which spans of a trace may still arrive. A window of trace starts is complete when it has
	// passed.
	Settle time.Duration
	// Recheck is the age at which a window is judged again, if traces are read by Tempo's API: late spans are found then.
	// 0 is never.
	Recheck time.Duration
	// Recent is the age at which traces are judged by Tempo's API, before their blocks are stored. 0 is never.
	Recent time.Duration
	// Hold is the time that a block rests before it is judged, because its replicas come a little later.
	Hold time.Duration
	// CatchUp selects the data that is judged after ticks were missed.
	CatchUp CatchUp
	// Limits bound one tick.
	Limits Limits
}

// CatchUp selects the data that is judged after ticks were missed, because the service did not run, the sweep was paused, or
// ticks failed or took too long. The rest is a hole. The empty value is [CatchUpAll].
type CatchUp string

// The ways to catch up. A tick at a time has the window of trace starts up to settle before that time.
const (
	// CatchUpAll judges all.
	CatchUpAll CatchUp = "all"
	// CatchUpLatest judges the window of the last due tick, and later ones.
	CatchUpLatest CatchUp = "latest"
	// CatchUpNone judges later windows only.
	CatchUpNone CatchUp = "none"
)

// Defaults of a sweep.
const (
	DefaultStart  = time.Hour
	DefaultSettle = 45 * time.Minute
	DefaultHold   = 2 * time.Minute
	// DefaultRecheck is the default of [Sweep].Recheck, which is at least twice Settle.
	DefaultRecheck = 2 * time.Hour
	// DefaultTickBytes is the default limit of the blocks of one tick. A tick of so many bytes takes some tens of
	// seconds.
	DefaultTickBytes = 1 << 30
	// DefaultViolations is the default limit of the new violations of one rule that a tick keeps in full.
	DefaultViolations = 10_000
)

// AllTenants is the name in [Sweep].Tenants that stands for every tenant of the storage.
const AllTenants = "*"

var sweepName = regexp.MustCompile(`^[a-z0-9]+([-._][a-z0-9]+)*$`)

// CheckSweeps returns an error if a sweep is invalid, or if two cannot run beside each other.
func CheckSweeps(sweeps []Sweep) error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for i, s := range sweeps {
		switch {
		case !sweepName.MatchString(s.Name):
			fail("sweep %q: want a name of a-z, 0-9 and - . _ between them", s.Name)
		case slices.ContainsFunc(sweeps[:i], func(other Sweep) bool { return other.Name == s.Name }):
			fail("sweep %s: two sweeps have this name: rename one", s.Name)
		case s.Schedule == nil:
			fail("sweep %s: schedule is missing: want a cron expression, as */5 * * * *", s.Name)
		case len(s.Packs) == 0:
			fail("sweep %s: packs is empty: name files or folders with rule packs", s.Name)
		case len(s.Tenants) == 0 || slices.Contains(s.Tenants, ""):
			fail(`sweep %s: tenants has an empty name: want names of tenants, or "*"`, s.Name)
		case s.Recheck > 0 && s.Recheck <= s.Settle:
			fail("sweep %s: recheck %s must be longer than settle %s, or 0", s.Name, s.Recheck, s.Settle)
		case s.Start < 0 || s.Settle < 0 || s.Recheck < 0 || s.Recent < 0 || s.Hold < 0 || s.Jitter < 0 || s.Canary < 0 || s.Seeded < 0:
			fail("sweep %s: start, settle, recheck, recent, hold, jitter, canary and seeded_violation must be 0 or more", s.Name)
		case !slices.Contains([]CatchUp{"", CatchUpAll, CatchUpLatest, CatchUpNone}, s.CatchUp):
			fail("sweep %s: catch_up is %q: want all, latest or none", s.Name, s.CatchUp)
		case s.Limits.areNegative():
			fail("sweep %s: limits must be 0 or more", s.Name)
		}
		for _, other := range sweeps[:i] {
			if s.sharesTenant(&other) && s.ResultsTenant != other.ResultsTenant {
				fail("sweeps %s and %s read the same tenant: results_tenant must be equal, because a violation is filed once", other.Name, s.Name)
			}
			if s.Schedule != nil && other.Schedule != nil && s.sharesPass(&other) && (s.Settle != other.Settle || s.Recheck != other.Recheck || s.Recent != other.Recent || s.Hold != other.Hold || s.Start != other.Start || s.Jitter != other.Jitter || s.Canary != other.Canary || s.Seeded != other.Seeded || s.catchUp() != other.catchUp() || s.Limits != other.Limits) {
				fail("sweeps %s and %s have the same schedule and so read blocks together: start, settle, recheck, recent, hold, jitter, canary, seeded_violation, catch_up and limits must be equal, or the schedules different", other.Name, s.Name)
			}
		}
	}
	return errors.Join(errs...)
}

// describe returns the sweep's settings on one line, for an entry about them.
func (s *Sweep) describe() string {
	text := fmt.Sprintf("schedule %s; tenants %s; packs %s; start %s; settle %s; recheck %s; recent %s; hold %s; limits %s", s.Schedule,
		strings.Join(s.Tenants, " "), strings.Join(s.Packs, " "), s.Start, s.Settle, s.Recheck, s.Recent, s.Hold, &s.Limits)
	if s.Select != nil {
		text += "; select " + s.Select.String()
	}
	if s.Jitter > 0 {
		text += "; jitter " + s.Jitter.String()
	}
	if s.Canary > 0 {
		text += "; canary " + s.Canary.String()
	}
	if s.Seeded > 0 {
		text += "; seeded_violation " + s.Seeded.String()
	}
	if s.catchUp() != CatchUpAll {
		text += "; catch_up " + string(s.CatchUp)
	}
	if s.ResultsTenant != "" {
		text += "; results_tenant " + s.ResultsTenant
	}
	return text
}

func (s *Sweep) catchUp() CatchUp { return cmp.Or(s.CatchUp, CatchUpAll) }

// sharesPass reports whether two sweeps read the blocks of a tenant together.
func (s *Sweep) sharesPass(other *Sweep) bool {
	return s.Schedule.String() == other.Schedule.String() && s.sharesTenant(other)
}

// sharesTenant reports whether two sweeps read a tenant both.
func (s *Sweep) sharesTenant(other *Sweep) bool {
	return slices.Contains(s.Tenants, AllTenants) || slices.Contains(other.Tenants, AllTenants) ||
		slices.ContainsFunc(s.Tenants, func(tenant string) bool { return slices.Contains(other.Tenants, tenant) })
}

// reads reports whether the sweep reads a tenant.
func (s *Sweep) reads(tenant string) bool {
	return slices.Contains(s.Tenants, AllTenants) || slices.Contains(s.Tenants, tenant)
}

// resultsTenant returns the tenant that receives the results about a tenant of violations.
func resultsTenant(sweeps []Sweep, tenant string) string {
	for i := range sweeps {
		if s := &sweeps[i]; s.ResultsTenant != "" && s.reads(cmp.Or(tenant, SingleTenant)) {
			return s.ResultsTenant
		}
	}
	return tenant
}

// pass is the work of the sweeps of one tenant that have the same schedule: they share a ledger, and read blocks
// together.
type pass struct {
	tenant string // the name of its folder in the storage
	sweeps []*Sweep
}

func (p *pass) schedule() *Schedule { return p.sweeps[0].Schedule }

// delay returns the part of the jitter by which the ticks of the pass are later than scheduled.
func (p *pass) delay() time.Duration {
	jitter := p.sweeps[0].Jitter
	if jitter <= 0 {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(p.key())) // a hash never fails
	return time.Duration(h.Sum64() % uint64(jitter))
}

// names returns the names of the sweeps.
func (p *pass) names() []string {
	names := make([]string, len(p.sweeps))
	for i, s := range p.sweeps {
		names[i] = s.Name
	}
	return names
}

// passesOf groups the sweeps of the tenants.
func passesOf(sweeps []Sweep, tenants []string) []*pass {
	var all []*pass
	for _, tenant := range tenants {
		bySchedule := map[string]*pass{}
		for i := range sweeps {
			s := &sweeps[i]
			if !s.reads(tenant) {
				continue
			}
			p := bySchedule[s.Schedule.String()]
			if p == nil {
				p = &pass{tenant: tenant}
				bySchedule[s.Schedule.String()] = p
				all = append(all, p)
			}
			p.sweeps = append(p.sweeps, s)
		}
	}
	return all
}
