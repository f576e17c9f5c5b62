package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/betracehq/betrace/scheduler"
	"github.com/betracehq/betrace/scheduler/state"
)

// coverageFlags are the flags of coverage.
type coverageFlags struct {
	period rangeFlags
	sweeps []string
	tenant string
	rule   string
	step   time.Duration
	format string
}

func (p *program) coverageCommand() *cobra.Command {
	var f coverageFlags
	cmd := &cobra.Command{
		Use:   "coverage [--rule RULE] [--since 24h | --from T --to T]",
		Short: "Show up to when every trace was judged, and where not",
		Long: `Show up to when every trace was judged, and where not: a calendar of the starts of traces, in UTC.

A window is complete if every trace that starts in it was judged by each of the rules, provisional if spans may still
arrive or be judged, incomplete if a part was not judged, and missing if a rule or the sweep began later. The holes
are listed below with their reasons. Without a range, the calendar shows the last 7 days, or less if the sweeps began later.
The command reads the state and needs no running service.

Exit code: 0 everything is complete or provisional; 2 a window is incomplete or missing, or a sweep does not run.`,
		Args: noArguments("use --rule for a rule, --sweep for a sweep"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(f.format); err != nil {
				return err
			}
			return p.coverage(cmd, f)
		},
	}
	p.config.addFlagsOf(cmd.Flags(), "state")
	f.period.add(cmd.Flags())
	cmd.Flags().StringArrayVar(&f.sweeps, "sweep", nil, "only this `sweep`; the default is all of the configuration, or of the state if it has none")
	cmd.Flags().StringVar(&f.tenant, "tenant", "", "only this `tenant`")
	cmd.Flags().StringVar(&f.rule, "rule", "", "only this `rule`: its ID, or pack/ID")
	cmd.Flags().DurationVar(&f.step, "step", 0, "`duration` of a window; the default depends on the range")
	addOutput(cmd.Flags(), &f.format)
	return cmd
}

// defaultPeriod is the length of the range without flags.
const defaultPeriod = 7 * day

// maxWindows bounds the calendar.
const maxWindows = 20_000

func (p *program) coverage(cmd *cobra.Command, f coverageFlags) error {
	now := time.Now().UTC()
	from, to, err := f.period.parse(now)
	if err != nil {
		return err
	}
	var c coverageReport
	err = p.readState(cmd, func(ctx context.Context, r *state.Reader) error {
		pack, rule := splitRule(f.rule)
		q := scheduler.CoverageQuery{Sweeps: f.sweeps, Tenant: f.tenant, Pack: pack, Rule: rule, MaxTraceDuration: p.config.Scan.MaxTraceDuration}
		if len(q.Sweeps) == 0 {
			for i := range p.config.Sweeps {
				q.Sweeps = append(q.Sweeps, p.config.Sweeps[i].Name)
			}
		}
		if c.ledgers, err = scheduler.ReadCoverage(ctx, r, q, now); err != nil {
			return err
		}
		if c.problems, err = f.unjudged(ctx, r, p.config, q.Sweeps, now); err != nil {
			return err
		}
		for _, name := range f.sweeps {
			if !slices.ContainsFunc(c.ledgers, func(l scheduler.LedgerCoverage) bool { return slices.Contains(l.Sweeps, name) }) {
				c.problem("sweep %s has judged nothing%s", name, f.selected())
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(c.ledgers) == 0:
		return fmt.Errorf("no sweep has judged anything%s: run betrace serve, or see betrace sweeps for the sweeps and tenants", f.selected())
	}
	if err := c.setRange(from, to, now, f.step); err != nil {
		return err
	}
	if f.format == "json" {
		err = printJSON(p.stdout, c.json())
	} else {
		err = c.print(p.stdout, now)
	}
	if err != nil {
		return err
	}
	for _, problem := range c.problems {
		fmt.Fprintln(p.stderr, "betrace:", problem)
	}
	if len(c.problems) > 0 || c.result() > scheduler.Provisional {
		return exitError{exitFailed}
	}
	return nil
}

// unjudged returns a problem for each selected tenant of the configuration that has no ledger yet.
func (f *coverageFlags) unjudged(ctx context.Context, r *state.Reader, c *config, sweeps []string, now time.Time) ([]string, error) {
	configured, err := c.sweeps()
	if err != nil {
		return nil, err
	}
	statuses, err := scheduler.SweepStatuses(ctx, r, configured, now)
	if err != nil {
		return nil, err
	}
	var problems []string
	for i := range statuses {
		s := &statuses[i]
		if !slices.Contains(sweeps, s.Name) {
			continue
		}
		if len(s.Tenants) == 0 && f.tenant == "" {
			problems = append(problems, fmt.Sprintf("sweep %s has judged nothing", s.Name))
		}
		for j := range s.Tenants {
			if t := &s.Tenants[j]; t.Ledger == 0 && (f.tenant == "" || f.tenant == t.Tenant) {
				problems = append(problems, fmt.Sprintf("sweep %s, tenant %s: nothing is judged yet", s.Name, t.Tenant))
			}
		}
	}
	return problems, nil
}

// selected returns the tenant and the rule that the flags select, for messages.
func (f *coverageFlags) selected() string {
	text := ""
	if f.tenant != "" {
		text += " of tenant " + f.tenant
	}
	if f.rule != "" {
		text += " by rule " + f.rule
	}
	return text
}

// splitRule splits pack/ID. The pack is empty if the text has only an ID.
func splitRule(text string) (pack, rule string) {
	if slash := strings.LastIndex(text, "/"); slash >= 0 {
		return text[:slash], text[slash+1:]
	}
	return "", text
}

// coverageReport is the output of coverage.
type coverageReport struct {
	ledgers  []scheduler.LedgerCoverage
	from, to time.Time
	grid     grid
	windows  []scheduler.Window
	problems []string
}

func (c *coverageReport) problem(format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf(format, args...))
}

// setRange sets the range and its windows. Zero times and a step of 0 have their defaults.
func (c *coverageReport) setRange(from, to, now time.Time, step time.Duration) error {
	if to.IsZero() {
		to = now
	}
	if from.IsZero() {
		first := to
		for i := range c.ledgers {
			if begins := c.ledgers[i].Begins; begins.Before(first) {
				first = begins
			}
		}
		if from = to.Add(-defaultPeriod); from.Before(first) && first.Before(to) {
			from = first
		}
	}
	if !from.Before(to) {
		return fmt.Errorf("the range from %s to %s is empty: --from must be earlier than --to, which is now by default", stamp(from), stamp(to))
	}
	c.from, c.to, c.grid = from.UTC(), to.UTC(), gridOf(to.Sub(from))
	switch {
	case step < 0 || step > 0 && step < time.Second:
		return fmt.Errorf("--step %s: want a duration of at least 1s", step)
	case step > 0:
		c.grid = gridFor(step)
	}
	if n := to.Sub(from) / c.grid.step; n > maxWindows {
		return fmt.Errorf("--step %s: the range has %d windows: want at most %d", step, n, maxWindows)
	}
	var present []scheduler.RuleCoverage
	for i := range c.ledgers {
		l := &c.ledgers[i]
		present = append(present, l.Present()...)
		if l.IsOverdue && l.Watermark.Before(to) {
			since := "since " + stamp(l.LastTick)
			if l.LastTick.IsZero() {
				since = "yet"
			}
			reason := "start betrace serve, or see betrace sweeps for errors"
			if l.Paused {
				reason = "it is paused; betrace sweeps resume continues it"
			}
			c.problem("sweep %s, tenant %s: nothing is judged %s, and ticks are overdue: %s", strings.Join(l.Sweeps, ","), l.Tenant, since, reason)
		}
	}
	c.windows = c.grid.windows(present, c.from, c.to)
	return nil
}

// result returns the worst state of the windows.
func (c *coverageReport) result() scheduler.Completeness {
	worst := scheduler.Complete
	for i := range c.windows {
		worst = max(worst, c.windows[i].State)
	}
	return worst
}

// isInRange reports whether a part of a range is in that of the report.
func (c *coverageReport) isInRange(from, to time.Time) bool {
	return from.Before(c.to) && c.from.Before(to)
}

// print writes the calendar, the coverage of the rules where it differs, and the holes.
func (c *coverageReport) print(to io.Writer, now time.Time) error {
	w := &checkedWriter{w: to} // it keeps the first error
	for i := range c.ledgers {
		l := &c.ledgers[i]
		fmt.Fprintf(w, "%s  complete up to %s, %s behind\n", ledgerName(l), stamp(l.Watermark), roughly(now.Sub(l.Watermark)))
		if i == maxListed-1 && len(c.ledgers) > maxListed {
			fmt.Fprintf(w, "and %d more: use --tenant\n", len(c.ledgers)-maxListed)
			break
		}
	}
	fmt.Fprintln(w)
	if err := c.grid.print(w, c.windows, newPainter(to)); err != nil {
		return err
	}
	c.printRules(w)
	c.printHoles(w)
	return w.err
}

// maxListed bounds the lists of the terminal output.
const maxListed = 10

func ledgerName(l *scheduler.LedgerCoverage) string {
	return fmt.Sprintf("%s (tenant %s)", strings.Join(l.Sweeps, ", "), l.Tenant)
}

// span is a range that several rules of a ledger cover.
type span struct {
	ledger   string
	from, to time.Time
	ended    bool
	rules    []string
}

// spans groups the versions of rules in the range by ledger and by the range that they cover.
func (c *coverageReport) spans() []span {
	var all []span
	for i := range c.ledgers {
		l := &c.ledgers[i]
		name := ledgerName(l)
		for j := range l.Rules {
			rule := &l.Rules[j]
			ended := !rule.Rule.Ended.IsZero()
			if ended && !c.isInRange(rule.From, rule.To) {
				continue
			}
			same := func(s span) bool {
				return s.ledger == name && s.from.Equal(rule.From) && s.to.Equal(rule.To) && s.ended == ended
			}
			k := slices.IndexFunc(all, same)
			if k < 0 {
				k = len(all)
				all = append(all, span{ledger: name, from: rule.From, to: rule.To, ended: ended})
			}
			all[k].rules = append(all[k].rules, rule.Rule.Pack+"/"+rule.Rule.Rule)
		}
	}
	return all
}

// printRules writes the ranges that the rules cover. It writes one line if all rules of all ledgers cover the same.
func (c *coverageReport) printRules(w io.Writer) {
	all := c.spans()
	if len(all) == 1 {
		fmt.Fprintf(w, "\n%s from %s to %s\n", counted(len(all[0].rules), "rule"), stamp(all[0].from), stamp(all[0].to))
		return
	}
	ledger := ""
	for i := range all {
		s := &all[i]
		if s.ledger != ledger {
			ledger = s.ledger
			fmt.Fprintf(w, "\nRules of %s\n", ledger)
		}
		fmt.Fprintf(w, "  %s to %s", stamp(s.from), stamp(s.to))
		switch {
		case s.ended:
			fmt.Fprint(w, "  (replaced or removed)")
		case !s.from.Before(s.to):
			fmt.Fprint(w, "  (nothing yet)")
		}
		fmt.Fprintln(w)
		fmt.Fprintln(w, wrap("    ", listed(s.rules)))
	}
}

// listed joins names. It counts those that would make the list long.
func listed(names []string) string {
	if len(names) <= maxListed {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxListed], ", "), len(names)-maxListed)
}

// hole is a hole in the coverage of some rules of a ledger.
type hole struct {
	state.Hole
	ledger *scheduler.LedgerCoverage
	rules  []string
	// isOfAll reports that the hole concerns each rule that judges now.
	isOfAll bool
}

// holes returns the holes in the range, each once, by reason and beginning.
func (c *coverageReport) holes() []hole {
	var all []hole
	for i := range c.ledgers {
		l := &c.ledgers[i]
		present := l.Present()
		for j := range present {
			for _, h := range present[j].Holes {
				if !c.isInRange(h.From, h.To) {
					continue
				}
				same := func(o hole) bool {
					return o.ledger == l && o.From.Equal(h.From) && o.To.Equal(h.To) && o.Reason == h.Reason && o.Subject == h.Subject
				}
				k := slices.IndexFunc(all, same)
				if k < 0 {
					k = len(all)
					all = append(all, hole{Hole: h, ledger: l})
				}
				all[k].rules = append(all[k].rules, present[j].Rule.Pack+"/"+present[j].Rule.Rule)
				all[k].isOfAll = len(all[k].rules) == len(present) && len(present) > 1
			}
		}
	}
	slices.SortStableFunc(all, func(a, b hole) int {
		if by := strings.Compare(a.Reason, b.Reason); by != 0 {
			return by
		}
		return a.From.Compare(b.From)
	})
	return all
}

// subject returns the subject of the hole, with the error of a block.
func (h *hole) subject() string {
	if reason := h.ledger.Unreadable[h.Subject]; reason != "" {
		return h.Subject + ": " + reason
	}
	return h.Subject
}

// printHoles writes the holes by reason, with explanations.
func (c *coverageReport) printHoles(w io.Writer) {
	all := c.holes()
	for len(all) > 0 {
		reason := all[0].Reason
		n := slices.IndexFunc(all, func(h hole) bool { return h.Reason != reason })
		if n < 0 {
			n = len(all)
		}
		explained := scheduler.ExplainHole(reason)
		fmt.Fprintf(w, "\n%s: %s\n", reason, counted(n, "hole"))
		fmt.Fprintln(w, wrap("  ", explained.Meaning+" "+explained.Remedy))
		for i := range all[:min(n, maxListed)] {
			h := &all[i]
			fmt.Fprintf(w, "  %s to %s\n", stamp(h.From), stamp(h.To))
			if len(c.ledgers) > 1 {
				fmt.Fprintln(w, wrap("    ", ledgerName(h.ledger)))
			}
			fmt.Fprintln(w, wrap("    ", oneLine(h.subject())))
			if !h.isOfAll {
				fmt.Fprintln(w, wrap("    ", "for "+listed(h.rules)))
			}
		}
		if n > maxListed {
			fmt.Fprintf(w, "  and %d more: use --output json\n", n-maxListed)
		}
		all = all[n:]
	}
}

// coverageJSON is the output of coverage as JSON.
type coverageJSON struct {
	From     string               `json:"from"`
	To       string               `json:"to"`
	StepS    int                  `json:"step_seconds"`
	Result   string               `json:"result"`
	Windows  []windowJSON         `json:"windows"`
	Tenants  []tenantCoverageJSON `json:"tenants"`
	Holes    []holeJSON           `json:"holes"`
	Problems []string             `json:"problems"`
}

type windowJSON struct {
	From  string `json:"from"`
	To    string `json:"to"`
	State string `json:"state"`
}

type tenantCoverageJSON struct {
	Tenant    string             `json:"tenant"`
	Sweeps    []string           `json:"sweeps"`
	From      string             `json:"from"`
	Watermark string             `json:"watermark"`
	LastTick  string             `json:"last_tick"`
	Overdue   bool               `json:"overdue"`
	Rules     []ruleCoverageJSON `json:"rules"`
}

type ruleCoverageJSON struct {
	Pack     string `json:"pack"`
	Rule     string `json:"rule"`
	Digest   string `json:"digest"`
	Severity string `json:"severity"`
	From     string `json:"from"`
	To       string `json:"to"`
	// Present reports that this version of the rule judges now.
	Present bool `json:"present"`
}

type holeJSON struct {
	Tenant  string   `json:"tenant"`
	From    string   `json:"from"`
	To      string   `json:"to"`
	Reason  string   `json:"reason"`
	Subject string   `json:"subject"`
	Rules   []string `json:"rules"`
}

func (c *coverageReport) json() *coverageJSON {
	out := &coverageJSON{
		From: stampJSON(c.from), To: stampJSON(c.to), StepS: int(c.grid.step / time.Second), Result: c.result().String(),
		Tenants: []tenantCoverageJSON{}, Holes: []holeJSON{}, Problems: append([]string{}, c.problems...),
	}
	for i := range c.windows {
		w := &c.windows[i]
		out.Windows = append(out.Windows, windowJSON{stampJSON(w.From), stampJSON(w.To), w.State.String()})
	}
	for i := range c.ledgers {
		l := &c.ledgers[i]
		tenant := tenantCoverageJSON{
			Tenant: l.Tenant, Sweeps: l.Sweeps, From: stampJSON(l.Begins), Watermark: stampJSON(l.Watermark), LastTick: stampJSON(l.LastTick),
			Overdue: l.IsOverdue, Rules: []ruleCoverageJSON{},
		}
		for j := range l.Rules {
			r := &l.Rules[j]
			tenant.Rules = append(tenant.Rules, ruleCoverageJSON{
				Pack: r.Rule.Pack, Rule: r.Rule.Rule, Digest: r.Rule.Digest, Severity: r.Rule.Severity,
				From: stampJSON(r.From), To: stampJSON(r.To), Present: r.Rule.Ended.IsZero(),
			})
		}
		out.Tenants = append(out.Tenants, tenant)
	}
	for _, h := range c.holes() {
		out.Holes = append(out.Holes, holeJSON{Tenant: h.ledger.Tenant, From: stampJSON(h.From), To: stampJSON(h.To), Reason: h.Reason, Subject: h.subject(), Rules: h.rules})
	}
	return out
}
