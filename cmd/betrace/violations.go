package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/scheduler"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/trace"
)

// violationFlags are the flags of violations.
type violationFlags struct {
	period    rangeFlags
	filter    state.ViolationFilter
	tenant    string
	origin    string
	traceID   string
	standings []string
	limit     int
	capped    bool
	format    string
}

func (f *violationFlags) add(flags *pflag.FlagSet) {
	f.period.add(flags)
	flags.StringVar(&f.filter.Rule, "rule", "", "only of this `rule`: its ID, or pack/ID")
	flags.StringVar(&f.filter.Pack, "pack", "", "only of the rules of this `pack`")
	flags.StringVar(&f.filter.Severity, "severity", "", "only of this `severity`")
	flags.StringVar(&f.filter.Service, "service", "", "only in traces with a span of this `service`")
	flags.StringVar(&f.traceID, "trace", "", "only in the trace of this `ID`")
	flags.StringVar(&f.origin, "origin", "", "only found by this `origin`: sweep, scan or backfill")
	flags.StringArrayVar(&f.standings, "standing", nil, "only with this `standing`: confirmed, provisional, superseded or withdrawn; repeat the flag for several")
	flags.StringVar(&f.tenant, "tenant", "", "only of this `tenant`")
	flags.IntVar(&f.limit, "limit", 100, "maximum `number` of violations; 0 is all")
	flags.BoolVar(&f.capped, "capped", false, "list the traces of capped violations instead: those that are not kept in full, because a tick found too many of the rule")
	addOutput(flags, &f.format)
}

func (p *program) violationsCommand() *cobra.Command {
	var f violationFlags
	cmd := &cobra.Command{
		Use:   "violations [--rule RULE] [--severity SEVERITY] [--service SERVICE] [--trace ID] [--since 24h | --from T --to T]",
		Short: "List the violations that sweeps found",
		Long: `List the violations that sweeps found, the latest trace first, with their corrections.

The standing of a violation is confirmed; provisional, while more spans of its trace may arrive; superseded, if its rule
was changed or removed since; or withdrawn, if the rule passed on the trace when more of its spans had arrived. The
command reads the state and needs no running service.

If a tick finds more new violations of a rule than the limit violations_per_rule of the sweep, the others are capped: only their number is
shown, and --capped lists their traces.

Exit code: 0 listed, also if there are none; 2 the state could not be read.`,
		Args: noArguments("use --rule for a rule, --trace for a trace"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := f.query(time.Now())
			if err != nil {
				return err
			}
			if f.capped {
				return p.listCapped(cmd, q, f.format)
			}
			var list []scheduler.ListedViolation
			var capped []scheduler.CappedCount
			more := false
			err = p.readState(cmd, func(ctx context.Context, r *state.Reader) error {
				if list, more, err = scheduler.ListViolations(ctx, r, q); err == nil {
					capped, err = scheduler.CountCapped(ctx, r, q)
				}
				return err
			})
			if err != nil {
				return err
			}
			if f.format == "json" {
				return printViolationsJSON(p.stdout, list, more, capped)
			}
			if err := printViolations(p.stdout, list, more); err != nil {
				return err
			}
			return printCappedCounts(p.stdout, capped)
		},
	}
	p.config.addFlagsOf(cmd.Flags(), "state")
	f.add(cmd.Flags())
	return cmd
}

// query returns the query for the flags. A value that no violation can have is an error, not an empty list.
func (f *violationFlags) query(now time.Time) (scheduler.ViolationQuery, error) {
	q := scheduler.ViolationQuery{Filter: f.filter, Folder: f.tenant, Limit: f.limit}
	if err := checkOutput(f.format); err != nil {
		return q, err
	}
	if f.limit < 0 {
		return q, fmt.Errorf("--limit %d: want 0 or more", f.limit)
	}
	if f.capped && f.filter.Service != "" {
		return q, errors.New("--capped with --service: the services of capped violations are not stored, so leave one out")
	}
	if pack, rule := splitRule(f.filter.Rule); pack != "" {
		if f.filter.Pack != "" && f.filter.Pack != pack {
			return q, fmt.Errorf("--pack %s and --rule %s name two packs: use one of them", f.filter.Pack, f.filter.Rule)
		}
		q.Filter.Pack, q.Filter.Rule = pack, rule
	}
	if s := f.filter.Severity; s != "" && !slices.Contains(rules.Severities, rules.Severity(s)) {
		return q, fmt.Errorf("--severity %q: want one of %v", s, rules.Severities)
	}
	switch evidence.Origin(f.origin) {
	case "", evidence.OriginSweep, evidence.OriginScan, evidence.OriginBackfill:
		q.Filter.Origin = f.origin
	default:
		return q, fmt.Errorf("--origin %q: want sweep, scan or backfill", f.origin)
	}
	for _, s := range f.standings {
		if !slices.Contains(scheduler.Standings, scheduler.Standing(s)) {
			return q, fmt.Errorf("--standing %q: want confirmed, provisional, superseded or withdrawn", s)
		}
		q.Standings = append(q.Standings, scheduler.Standing(s))
	}
	var err error
	if f.traceID != "" {
		if q.Filter.TraceID, err = trace.ParseID(f.traceID); err != nil {
			return q, fmt.Errorf("--trace: %w", err)
		}
	}
	q.Filter.From, q.Filter.To, err = f.period.parse(now)
	return q, err
}

// standingColours are the colours of standings. A confirmed one has none.
var standingColours = map[scheduler.Standing]string{
	scheduler.StandingProvisional: yellow, scheduler.StandingSuperseded: grey, scheduler.StandingWithdrawn: green,
}

// printViolations writes the violations as a table with three lines for each, because one line would be too wide for a
// terminal.
func printViolations(to io.Writer, list []scheduler.ListedViolation, more bool) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(to, "no violation")
		return err
	}
	paint := newPainter(to)
	w := &checkedWriter{w: to}
	fmt.Fprintln(w, "TRACE STARTED         SEVERITY  RULE, SERVICE: MESSAGE, TRACE ID, STANDING")
	const indent = "                                "
	severalTenants := slices.ContainsFunc(list, func(v scheduler.ListedViolation) bool { return v.Tenant != list[0].Tenant })
	for i := range list {
		v := &list[i]
		severity := fmt.Sprintf("%-8s", v.Severity)
		if v.Severity == "critical" {
			severity = paint.paint(red, severity)
		}
		fmt.Fprintf(w, "%s  %s  %s/%s\n", v.TraceStart.Time().UTC().Format(time.RFC3339), severity, v.Pack, v.RuleID)
		text := v.Message
		if v.RootService != "" {
			text = v.RootService + ": " + text
		}
		fmt.Fprintln(w, wrap(indent, oneLine(text)))
		standing := string(v.Standing)
		if colour := standingColours[v.Standing]; colour != "" {
			standing = paint.paint(colour, standing)
		}
		if v.Muted {
			standing += ", muted"
		}
		fmt.Fprintf(w, "%s%s  %s\n", indent, v.TraceID, standing)
		if severalTenants {
			fmt.Fprintf(w, "%stenant %s\n", indent, cmp.Or(v.Tenant, scheduler.SingleTenant))
		}
		for j := range v.Corrections {
			c := &v.Corrections[j]
			fmt.Fprintln(w, wrap(indent, fmt.Sprintf("%s %s: %s", stamp(c.FiledAt), c.Kind, oneLine(c.Reason))))
		}
	}
	if more {
		fmt.Fprintf(w, "\nand more: use --limit 0 for all, or select fewer\n")
	} else {
		fmt.Fprintf(w, "\n%s\n", counted(len(list), "violation"))
	}
	return w.err
}

// violationListJSON is the output of violations as JSON.
type violationListJSON struct {
	Violations []listedViolationJSON `json:"violations"`
	// More reports that the limit left out violations.
	More bool `json:"more"`
	// Capped counts the violations that are not kept in full, by rule.
	Capped []cappedCountJSON `json:"capped,omitempty"`
}

type cappedCountJSON struct {
	Tenant string `json:"tenant"`
	Pack   string `json:"pack"`
	Rule   string `json:"rule"`
	Count  int    `json:"count"`
}

type listedViolationJSON struct {
	// Violation is the record, as in Loki, with the circumstances added.
	Violation   json.RawMessage  `json:"violation"`
	Standing    string           `json:"standing"`
	Muted       bool             `json:"muted,omitempty"`
	Sweep       string           `json:"sweep,omitempty"`
	Spans       int              `json:"spans"`
	Entry       int64            `json:"entry"`
	FiledAt     string           `json:"filed_at"`
	Corrections []correctionJSON `json:"corrections"`
}

type correctionJSON struct {
	ID          string `json:"correction_id"`
	Kind        string `json:"kind"`
	Reason      string `json:"reason"`
	SpansBefore int    `json:"spans_before"`
	SpansAfter  int    `json:"spans_after"`
	Entry       int64  `json:"entry"`
	FiledAt     string `json:"filed_at"`
}

func printViolationsJSON(to io.Writer, list []scheduler.ListedViolation, more bool, capped []scheduler.CappedCount) error {
	out := violationListJSON{Violations: []listedViolationJSON{}, More: more}
	for _, c := range capped {
		out.Capped = append(out.Capped, cappedCountJSON(c))
	}
	for i := range list {
		v := &list[i]
		record, err := violationJSON(v.Violation.Violation)
		if err != nil {
			return err
		}
		listed := listedViolationJSON{
			Violation: record, Standing: string(v.Standing), Muted: v.Muted, Sweep: v.Sweep, Spans: v.Spans, Entry: v.EntryNumber, FiledAt: stampJSON(v.FiledAt), Corrections: []correctionJSON{},
		}
		for j := range v.Corrections {
			c := &v.Corrections[j]
			listed.Corrections = append(listed.Corrections, correctionJSON{
				ID: c.ID, Kind: string(c.Kind), Reason: c.Reason, SpansBefore: c.SpansBefore, SpansAfter: c.SpansAfter, Entry: c.EntryNumber, FiledAt: stampJSON(c.FiledAt),
			})
		}
		out.Violations = append(out.Violations, listed)
	}
	return printJSON(to, out)
}

// printCappedCounts writes the numbers of capped violations, if there are some.
func printCappedCounts(to io.Writer, counts []scheduler.CappedCount) error {
	if len(counts) == 0 {
		return nil
	}
	w := &checkedWriter{w: to}
	fmt.Fprintln(w, "\nCapped violations, of which only the traces are stored (--capped lists them):")
	severalTenants := slices.ContainsFunc(counts, func(c scheduler.CappedCount) bool { return c.Tenant != counts[0].Tenant })
	for _, c := range counts {
		tenant := ""
		if severalTenants {
			tenant = ", tenant " + cmp.Or(c.Tenant, scheduler.SingleTenant)
		}
		fmt.Fprintf(w, "%8d  %s/%s%s\n", c.Count, c.Pack, c.Rule, tenant)
	}
	return w.err
}

type cappedJSON struct {
	Tenant     string `json:"tenant"`
	Pack       string `json:"pack"`
	Rule       string `json:"rule"`
	Digest     string `json:"digest"`
	Severity   string `json:"severity"`
	TraceID    string `json:"trace_id"`
	TraceStart string `json:"trace_start"`
	Standing   string `json:"standing"`
	Spans      int    `json:"spans"`
	Entry      int64  `json:"entry"`
}

// listCapped prints the traces of capped violations.
func (p *program) listCapped(cmd *cobra.Command, q scheduler.ViolationQuery, format string) error {
	var list struct {
		Capped []cappedJSON `json:"capped"`
		More   bool         `json:"more"`
	}
	list.Capped = []cappedJSON{}
	err := p.readState(cmd, func(ctx context.Context, r *state.Reader) (err error) {
		list.More, err = scheduler.EachCapped(ctx, r, q, func(v *scheduler.ListedCapped) error {
			list.Capped = append(list.Capped, cappedJSON{
				Tenant: v.Tenant, Pack: v.Pack, Rule: v.Rule, Digest: v.Digest, Severity: v.Severity, TraceID: v.TraceID.String(),
				TraceStart: stampJSON(v.TraceStart.Time()), Standing: string(v.Standing), Spans: v.Spans, Entry: v.Entry,
			})
			return nil
		})
		return err
	})
	if err != nil {
		return err
	}
	if format == "json" {
		return printJSON(p.stdout, list)
	}
	w := &checkedWriter{w: p.stdout}
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "TRACE STARTED\tSEVERITY\tTRACE ID\tSTANDING\tRULE")
	for i := range list.Capped {
		v := &list.Capped[i]
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s/%s\n", v.TraceStart, v.Severity, v.TraceID, v.Standing, v.Pack, v.Rule)
	}
	table.Flush() //nolint:errcheck // w keeps the error
	if list.More {
		fmt.Fprintf(w, "\nand more: use --limit 0 for all, or select fewer\n")
	} else {
		fmt.Fprintf(w, "\n%s\n", counted(len(list.Capped), "capped violation"))
	}
	return w.err
}
