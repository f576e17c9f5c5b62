package analyzer

import (
	"time"

	"github.com/betracehq/betrace/analyzer/engine"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// TraceCounts counts the traces of a scan.
type TraceCounts struct {
	Seen         int `json:"seen"`              // delivered by the source
	Own          int `json:"own"`               // excluded: written by BeTrace itself
	OutsideQuery int `json:"outside_the_query"` // excluded by ScanOptions.Filter
	Judged       int `json:"judged"`            // judged by every rule
	Spans        int `json:"spans"`             // spans of the traces seen
}

// RuleCounts counts a rule's verdicts.
type RuleCounts struct {
	Rule          *rules.Rule
	NotApplicable int
	Pass          int
	Violation     int
	Error         int
	// FirstError is the first verdict that is an error, and FirstErrorTrace its trace. Errors are also a problem
	// of the result.
	FirstError      error
	FirstErrorTrace trace.ID
}

// Applied returns the number of traces to which the rule applied.
func (c *RuleCounts) Applied() int { return c.Pass + c.Violation + c.Error }

// Result is the result of a scan.
type Result struct {
	trace.Reading
	Traces TraceCounts
	// Rules has one entry per rule, in the order of ScanOptions.Rules.
	Rules []RuleCounts
	// Cost is the sum of [rules.Rule.Cost] over the judged traces and the rules, for the sizes of ScanOptions.CostSizes with
	// the number of spans of each trace, rounded up. It is 0 if CostSizes is nil.
	Cost float64
	// Flags counts the traces with each of trace.FlagNames.
	Flags map[string]int
	// Earliest and Latest bound the start of the judged traces. They are zero if there are none.
	Earliest, Latest time.Time
}

func newResult(rs []*rules.Rule) *Result {
	r := &Result{Rules: make([]RuleCounts, len(rs)), Flags: map[string]int{}}
	for i, rule := range rs {
		r.Rules[i].Rule = rule
	}
	return r
}

// see counts a trace that the source delivered, with its number of spans.
func (r *Result) see(spans int) {
	r.Traces.Seen++
	r.Traces.Spans += spans
}

// exclude counts a trace of a batch that is not judged, also in reason.
func (r *Result) exclude(b *columnar.Batch, t int, reason *int) {
	r.see(int(b.First[t+1] - b.First[t]))
	*reason++
}

// addJudged counts trace t of a batch, which was judged.
func (r *Result) addJudged(b *columnar.Batch, t int) {
	r.see(int(b.First[t+1] - b.First[t]))
	r.Traces.Judged++
	for _, name := range b.Flags[t].Names() {
		r.Flags[name]++
	}
	start := b.Starts[b.First[t]].Time()
	if r.Earliest.IsZero() || start.Before(r.Earliest) {
		r.Earliest = start
	}
	if start.After(r.Latest) {
		r.Latest = start
	}
}

// found counts a violation or an error.
func (r *Result) found(f engine.Found) {
	c := &r.Rules[f.Rule]
	if f.Verdict.Outcome == rules.Violation {
		c.Violation++
		return
	}
	if c.Error == 0 {
		c.FirstError, c.FirstErrorTrace = f.Verdict.Err, f.View.ID
	}
	c.Error++
}
