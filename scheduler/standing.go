package scheduler

import (
	"context"
	"fmt"
	"slices"
	"strings"

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
			// The filter cannot select the empty tenant.
			if q.Folder != "" && v.Tenant != filter.Tenant || len(q.Standings) > 0 && !slices.Contains(q.Standings, v.Standing) {
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
	l := s.ledgers[v.Ledger]
	if l == nil {
		ledger, err := s.r.Ledger(ctx, v.Ledger)
		if err != nil {
			return "", fmt.Errorf("violation %s: %w", v.ID, err)
		}
		rules, err := s.r.LoadedRules(ctx, v.Ledger)
		if err != nil {
			return "", err
		}
		l = &ledgerStanding{ledger: ledger, loaded: map[string]bool{}}
		for _, rule := range rules {
			if rule.Ended.IsZero() {
				l.loaded[ruleKey(rule.Pack, rule.Rule, rule.Digest)] = true
			}
		}
		s.ledgers[v.Ledger] = l
	}
	switch {
	case !l.loaded[ruleKey(v.Pack, v.RuleID, v.RuleDigest)]:
		return StandingSuperseded, nil
	case !v.TraceStart.Time().Before(l.ledger.Watermark):
		return StandingProvisional, nil
	}
	return StandingConfirmed, nil
}
