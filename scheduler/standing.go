package scheduler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/scheduler/state"
)

// Standing is the status of a violation, seen from the present rules and coverage.
type Standing string

// The standings.
const (
	// StandingConfirmed means that the rule is loaded, and that the watermark has passed the start of the trace.
	StandingConfirmed Standing = "confirmed"
	// StandingProvisional means that more spans of the trace may arrive, and the rule may then pass.
	StandingProvisional Standing = "provisional"
	// StandingSuperseded means that the rule was changed or removed. The violation stands.
	StandingSuperseded Standing = "superseded"
	// StandingWithdrawn means that the rule passed on a trace with at least as many spans.
	StandingWithdrawn Standing = "withdrawn"
)

// Standings are all standings.
var Standings = []Standing{StandingConfirmed, StandingProvisional, StandingSuperseded, StandingWithdrawn}

// ListedViolation is a violation with its standing and its corrections.
type ListedViolation struct {
	state.Violation
	Standing    Standing
	Corrections []state.Correction
}

// ViolationQuery selects violations.
type ViolationQuery struct {
	// Filter selects by the stored fields. Its Limit and After are not used.
	Filter state.ViolationFilter
	// Folder, if not empty, is the folder of a tenant in the storage. It takes the place of the tenant of the filter.
	Folder string
	// Standings, if not empty, are the standings to return.
	Standings []Standing
	// Limit is the maximum number of violations. If it is 0, all are returned.
	Limit int
}

// violationPage is the number of violations that are read at once.
const violationPage = 500

// ListViolations returns the violations that match the query, the latest trace start first. It reports whether there
// are more of them than the limit.
func ListViolations(ctx context.Context, r *state.Reader, q ViolationQuery) (list []ListedViolation, more bool, err error) {
	filter := q.Filter
	filter.Limit = violationPage
	if q.Folder != "" {
		filter.Tenant = evidenceTenant(q.Folder)
	}
	standings := standingReader{r: r, ledgers: map[int64]*ledgerStanding{}}
	for {
		page, err := r.Violations(ctx, filter)
		if err != nil {
			return nil, false, err
		}
		for i := range page {
			v := ListedViolation{Violation: page[i]}
			if v.Standing, err = standings.of(ctx, &page[i]); err != nil {
				return nil, false, err
			}
			if !q.hasTenant(v.Tenant) || len(q.Standings) > 0 && !slices.Contains(q.Standings, v.Standing) {
				continue
			}
			if q.Limit > 0 && len(list) == q.Limit {
				return list, true, nil
			}
			if v.Sequence > 0 {
				if v.Corrections, err = r.ViolationCorrections(ctx, v.ID); err != nil {
					return nil, false, err
				}
			}
			list = append(list, v)
		}
		if len(page) < violationPage {
			return list, false, nil
		}
		filter.After = page[len(page)-1].ID
	}
}

// ListedCapped is a capped violation with its standing.
type ListedCapped struct {
	state.ListedCapped
	Standing Standing
}

// CappedCount is the number of capped violations of a rule of a tenant.
type CappedCount struct {
	Tenant, Pack, Rule string
	Count              int
}

// CountCapped returns the numbers of capped violations that match the query, without its limit, by tenant, pack and rule.
func CountCapped(ctx context.Context, r *state.Reader, q ViolationQuery) ([]CappedCount, error) {
	counts := map[CappedCount]int{}
	q.Limit = 0
	var err error
	if len(q.Standings) == 0 {
		err = countCappedLists(ctx, r, q, counts)
	} else {
		_, err = EachCapped(ctx, r, q, func(v *ListedCapped) error {
			counts[CappedCount{Tenant: v.Tenant, Pack: v.Pack, Rule: v.Rule}]++
			return nil
		})
	}
	if err != nil {
		return nil, err
	}
	var all []CappedCount
	for c, n := range counts {
		c.Count = n
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b CappedCount) int {
		return cmp.Or(strings.Compare(a.Tenant, b.Tenant), strings.Compare(a.Pack, b.Pack), strings.Compare(a.Rule, b.Rule))
	})
	return all, nil
}

// countCappedLists counts without reading each violation.
func countCappedLists(ctx context.Context, r *state.Reader, q ViolationQuery, counts map[CappedCount]int) error {
	if !q.findsCapped() {
		return nil
	}
	lists, err := r.CappedLists(ctx)
	if err != nil {
		return err
	}
	byList, err := r.CountCapped(ctx, q.Filter)
	for i := range lists {
		l := &lists[i]
		if n := byList[l.ID]; n > 0 && q.hasTenant(l.Tenant) {
			counts[CappedCount{Tenant: l.Tenant, Pack: l.Pack, Rule: l.Rule}] += n
		}
	}
	return err
}

// findsCapped reports whether the query can match capped violations. Only sweeps find them, and their services are not known.
func (q *ViolationQuery) findsCapped() bool {
	return q.Filter.Service == "" && (q.Filter.Origin == "" || q.Filter.Origin == string(evidence.OriginSweep))
}

// hasTenant reports whether the query has no tenant, or this one. The filter cannot select the empty tenant.
func (q *ViolationQuery) hasTenant(tenant string) bool {
	return q.Folder == "" || tenant == evidenceTenant(q.Folder)
}

var errEnough = errors.New("the limit is reached")

// EachCapped calls f with the capped violations that match the query, those of the last entries first and by trace ID, until
// it returns an error. It reports whether there are more of them than the limit.
func EachCapped(ctx context.Context, r *state.Reader, q ViolationQuery, f func(*ListedCapped) error) (more bool, err error) {
	if !q.findsCapped() {
		return false, nil
	}
	lists, err := r.CappedLists(ctx)
	if err != nil {
		return false, err
	}
	standings := standingReader{r: r, ledgers: map[int64]*ledgerStanding{}}
	for i := range lists { // a connection cannot read them while it reads rows
		if _, err := standings.ledger(ctx, lists[i].Ledger); err != nil {
			return false, err
		}
	}
	n := 0
	err = r.EachCapped(ctx, q.Filter, func(c *state.ListedCapped) error {
		v := &ListedCapped{ListedCapped: *c}
		var err error
		v.Standing, err = standings.of(ctx, &state.Violation{
			Violation: evidence.Violation{Pack: c.Pack, RuleID: c.Rule, RuleDigest: c.Digest, TraceStart: c.TraceStart}, Ledger: c.Ledger, Status: c.Status,
		})
		switch {
		case err != nil:
			return err
		case !q.hasTenant(v.Tenant) || len(q.Standings) > 0 && !slices.Contains(q.Standings, v.Standing):
			return nil
		case q.Limit > 0 && n == q.Limit:
			return errEnough
		}
		n++
		return f(v)
	})
	if errors.Is(err, errEnough) {
		return true, nil
	}
	return false, err
}

// standingReader reads each ledger once.
type standingReader struct {
	r       *state.Reader
	ledgers map[int64]*ledgerStanding
}

// ledgerStanding is the part of a ledger on which standings depend.
type ledgerStanding struct {
	ledger state.Ledger
	loaded map[string]bool // digests of the rules that are loaded, by pack and rule
}

func ruleKey(pack, rule, digest string) string {
	return strings.Join([]string{pack, rule, digest}, "\x00")
}

// of returns the standing of a violation.
func (s *standingReader) of(ctx context.Context, v *state.Violation) (Standing, error) {
	if v.Status == state.StatusWithdrawn {
		return StandingWithdrawn, nil
	}
	l, err := s.ledger(ctx, v.Ledger)
	if err != nil {
		return "", fmt.Errorf("violation %s: %w", v.ID, err)
	}
	switch {
	case !l.loaded[ruleKey(v.Pack, v.RuleID, v.RuleDigest)]:
		return StandingSuperseded, nil
	case !v.TraceStart.Time().Before(l.ledger.Watermark):
		return StandingProvisional, nil
	}
	return StandingConfirmed, nil
}

// ledger returns the part of a ledger on which standings depend.
func (s *standingReader) ledger(ctx context.Context, id int64) (*ledgerStanding, error) {
	if l := s.ledgers[id]; l != nil {
		return l, nil
	}
	ledger, err := s.r.Ledger(ctx, id)
	if err != nil {
		return nil, err
	}
	rules, err := s.r.LoadedRules(ctx, id)
	if err != nil {
		return nil, err
	}
	l := &ledgerStanding{ledger: ledger, loaded: map[string]bool{}}
	for _, rule := range rules {
		if rule.Ended.IsZero() {
			l.loaded[ruleKey(rule.Pack, rule.Rule, rule.Digest)] = true
		}
	}
	s.ledgers[id] = l
	return l, nil
}
