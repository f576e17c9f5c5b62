package scheduler

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/betracehq/betrace/scheduler/state"
)

// SweepStatus is the status of a sweep, from the state and the configuration.
type SweepStatus struct {
	Name string
	// Schedule is the configured schedule, or else that of its ledgers. It is empty if there is neither.
	Schedule string
	// IsConfigured reports that the configuration has the sweep.
	IsConfigured bool
	Paused       bool
	// Tenants are the tenants that it has judged or listed, and those that the configuration names, in order.
	Tenants []TenantStatus
}

// TenantStatus is the status of a sweep of one tenant.
type TenantStatus struct {
	// SweepState has no ledger before the first tick of the tenant began.
	state.SweepState
	Watermark time.Time
	// NextTick is the time of the next tick. It may have passed. It is zero if it is unknown, or if the sweep is paused.
	NextTick time.Time
	// IsOverdue reports that a whole period has passed since the next tick was due.
	IsOverdue bool
	// Waiting and Aside are the numbers of blocks that wait to be judged, and that cannot be read.
	Waiting, Aside int
}

// SweepStatuses returns the status of each sweep of the configuration and of the state, by name.
func SweepStatuses(ctx context.Context, r *state.Reader, configured []Sweep, now time.Time) ([]SweepStatus, error) {
	stored, err := r.Sweeps(ctx)
	if err != nil {
		return nil, err
	}
	ledgers, err := r.Ledgers(ctx)
	if err != nil {
		return nil, err
	}
	byName := map[string]*SweepStatus{}
	var all []*SweepStatus
	of := func(name string) *SweepStatus {
		if byName[name] == nil {
			byName[name] = &SweepStatus{Name: name}
			all = append(all, byName[name])
		}
		return byName[name]
	}
	for i := range configured {
		s := of(configured[i].Name)
		s.IsConfigured, s.Schedule = true, configured[i].Schedule.String()
		for _, tenant := range configured[i].Tenants {
			isStored := slices.ContainsFunc(stored, func(st state.SweepState) bool { return st.Sweep == s.Name && st.Tenant == tenant })
			if tenant != AllTenants && !isStored {
				s.Tenants = append(s.Tenants, TenantStatus{SweepState: state.SweepState{Sweep: s.Name, Tenant: tenant}})
			}
		}
	}
	counts := map[int64][2]int{} // waiting and set aside, by ledger
	for _, st := range stored {
		s := of(st.Sweep)
		if st.Tenant == AllTenants {
			s.Paused = st.Paused
			continue
		}
		t := TenantStatus{SweepState: st}
		if i := slices.IndexFunc(ledgers, func(l state.Ledger) bool { return l.ID == st.Ledger }); i >= 0 {
			t.Watermark = ledgers[i].Watermark
			s.Schedule = cmp.Or(s.Schedule, ledgers[i].Schedule)
			count, isCounted := counts[st.Ledger]
			if !isCounted {
				if count, err = countBlocks(ctx, r, st.Ledger); err != nil {
					return nil, err
				}
				counts[st.Ledger] = count
			}
			t.Waiting, t.Aside = count[0], count[1]
		}
		s.Tenants = append(s.Tenants, t)
	}
	statuses := make([]SweepStatus, len(all))
	slices.SortFunc(all, func(a, b *SweepStatus) int { return cmp.Compare(a.Name, b.Name) })
	for i, s := range all {
		s.setTicks(now)
		slices.SortFunc(s.Tenants, func(a, b TenantStatus) int { return cmp.Compare(a.Tenant, b.Tenant) })
		statuses[i] = *s
	}
	return statuses, nil
}

// setTicks sets the times of the next ticks.
func (s *SweepStatus) setTicks(now time.Time) {
	for i := range s.Tenants {
		t := &s.Tenants[i]
		next, isOverdue := nextTick(s.Schedule, t.LastTick, now)
		if t.IsOverdue = isOverdue; !s.Paused {
			t.NextTick = next
		}
	}
}

// nextTick returns the tick after the last one, and reports whether the one after it is due, too. The time is zero if the
// schedule is unknown or nothing has run.
func nextTick(schedule string, last, now time.Time) (next time.Time, isOverdue bool) {
	space := strings.LastIndex(schedule, " ")
	if space < 0 || last.IsZero() {
		return time.Time{}, false
	}
	parsed, err := ParseSchedule(schedule[:space], schedule[space+1:])
	if err != nil {
		return time.Time{}, false // a later version wrote it
	}
	next = parsed.Next(last)
	return next, !parsed.Next(next).After(now)
}

// countBlocks returns the numbers of blocks of a ledger that wait, and that are set aside.
func countBlocks(ctx context.Context, r *state.Reader, ledger int64) (counts [2]int, err error) {
	blocks, err := r.LedgerBlocks(ctx, ledger)
	for _, b := range blocks {
		switch b.State {
		case state.BlockWaiting, state.BlockPending:
			counts[0]++
		case state.BlockAside:
			counts[1]++
		}
	}
	return counts, err
}

// CoverageQuery selects rules and ledgers.
type CoverageQuery struct {
	// Sweeps are the names of sweeps. If there are none, all sweeps of the state are selected.
	Sweeps []string
	// Tenant, if not empty, is the folder of a tenant in the storage.
	Tenant string
	// Pack and Rule, if not empty, select rules.
	Pack, Rule string
	// MaxTraceDuration is that of the service. The default is 1 h.
	MaxTraceDuration time.Duration
}

// LedgerCoverage is the coverage of the rules of one tenant by the sweeps that share a ledger.
type LedgerCoverage struct {
	state.Ledger
	Sweeps []string
	// LastTick is the scheduled time of the last tick. IsOverdue reports that a whole period has passed since the next one
	// was due, or that no tick has succeeded. Paused reports that all of the sweeps are paused.
	LastTick          time.Time
	IsOverdue, Paused bool
	// Rules are the versions of the selected rules, also those that were replaced or removed.
	Rules []RuleCoverage
	// Unreadable are the errors of the blocks that are set aside, by the subject of their holes.
	Unreadable map[string]string
}

// Present returns the coverage of the rules that judge now. If only former versions were selected, it returns these.
func (l *LedgerCoverage) Present() []RuleCoverage {
	present := slices.DeleteFunc(slices.Clone(l.Rules), func(c RuleCoverage) bool { return !c.Rule.Ended.IsZero() })
	if len(present) == 0 {
		return l.Rules
	}
	return present
}

// ReadCoverage returns the coverage of the selected rules, by tenant and ledger. Ledgers that no selected sweep uses, and
// those without a selected rule, are left out.
func ReadCoverage(ctx context.Context, r *state.Reader, q CoverageQuery, now time.Time) ([]LedgerCoverage, error) {
	sweeps, err := r.Sweeps(ctx)
	if err != nil {
		return nil, err
	}
	ledgers, err := r.Ledgers(ctx)
	if err != nil {
		return nil, err
	}
	paused := map[string]bool{}
	for _, s := range sweeps {
		if s.Tenant == AllTenants {
			paused[s.Sweep] = s.Paused
		}
	}
	var all []LedgerCoverage
	for _, ledger := range ledgers {
		c := LedgerCoverage{Ledger: ledger, Paused: true}
		for _, s := range sweeps {
			isSelected := len(q.Sweeps) == 0 || slices.Contains(q.Sweeps, s.Sweep)
			if s.Ledger == ledger.ID && isSelected && s.Tenant == ledger.Tenant && (q.Tenant == "" || s.Tenant == q.Tenant) {
				c.Sweeps, c.LastTick, c.Paused = append(c.Sweeps, s.Sweep), later(c.LastTick, s.LastTick), c.Paused && paused[s.Sweep]
			}
		}
		if len(c.Sweeps) == 0 {
			continue
		}
		_, c.IsOverdue = nextTick(ledger.Schedule, c.LastTick, now)
		c.IsOverdue = c.IsOverdue || c.LastTick.IsZero()
		if err := c.read(ctx, r, &q); err != nil {
			return nil, err
		}
		if len(c.Rules) > 0 || q.Pack == "" && q.Rule == "" {
			all = append(all, c)
		}
	}
	slices.SortStableFunc(all, func(a, b LedgerCoverage) int { return cmp.Compare(a.Tenant, b.Tenant) })
	return all, nil
}

// read reads the rules and holes of the ledger.
func (l *LedgerCoverage) read(ctx context.Context, r *state.Reader, q *CoverageQuery) error {
	blocks, err := r.LedgerBlocks(ctx, l.ID)
	if err != nil {
		return err
	}
	loaded, err := r.LoadedRules(ctx, l.ID)
	if err != nil {
		return err
	}
	holes, err := r.Holes(ctx, l.ID)
	if err != nil {
		return err
	}
	loaded = slices.DeleteFunc(loaded, func(rule state.LoadedRule) bool {
		return q.Pack != "" && rule.Pack != q.Pack || q.Rule != "" && rule.Rule != q.Rule
	})
	l.Rules = Coverage(Ledger{Ledger: l.Ledger, Blocks: blocks}, q.MaxTraceDuration, loaded, holes)
	l.Unreadable = map[string]string{}
	for id, b := range blocks {
		if b.State == state.BlockAside {
			l.Unreadable["block "+id] = b.Reason
		}
	}
	return nil
}
