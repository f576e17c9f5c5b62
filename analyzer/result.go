package analyzer

import (
	"time"

	"github.com/betracehq/betrace/analyzer/engine"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// Completeness says what a scan's counts stand for.
type Completeness string

const (
	// Complete: everything that was asked for was read whole and judged by every rule.
	Complete Completeness = "complete"
	// Provisional: as Complete, of data so young that more of it may still come.
	Provisional Completeness = "provisional"
	// Incomplete: something was not read or not judged; the problems say what.
	Incomplete Completeness = "incomplete"
)

// Problem is something that was not read, and why.
type Problem struct {
	What string `json:"what"` // "trace 4bf9…", "search 12:00:00/12:00:01"
	Why  string `json:"why"`
}

// Reading is what a source says about what it read.
type Reading struct {
	// Basis is how traces were found: "search", "blocks", "blocks and search", "trace-id"
	// or "files".
	Basis string
	// Problems are what it could not read. More than fit here are in MoreProblems.
	Problems     []Problem
	MoreProblems int
	// OutsideRange counts traces that were read and start outside the range.
	OutsideRange int
	// Skipped counts traces that are known to exist but were not judged.
	Skipped int
	// SecondSearch is nil if nothing was searched twice.
	SecondSearch *SecondSearch
	// Young is set if the range reaches into the time in which data still arrives.
	Young bool
	// Objects counts the JSON objects or protobuf messages with traces that were read from
	// files, OtherSignals those with logs, metrics or profiles, which were skipped, and
	// Unread those that could not be read, each of which is a problem, too.
	Objects, OtherSignals, Unread int
	// Warnings are remarks that make nothing incomplete.
	Warnings []string
}

// SecondSearch reports the second search of data that may have been in motion
// during the first one.
type SecondSearch struct {
	// From is the start of the part of the range that was searched twice.
	From time.Time `json:"from"`
	// Added counts the traces in the range that only the second search found.
	Added int `json:"added"`
}

// TraceCounts count traces by what became of them.
type TraceCounts struct {
	Seen         int `json:"seen"`              // read whole from the source
	Own          int `json:"own"`               // left out: written by BeTrace itself
	OutsideQuery int `json:"outside_the_query"` // left out: ScanOptions.Filter does not match
	Judged       int `json:"judged"`            // judged by every rule
	Spans        int `json:"spans"`             // spans of the traces seen
}

// RuleCounts count a rule's verdicts.
type RuleCounts struct {
	Rule          *rules.Rule
	NotApplicable int
	Pass          int
	Violation     int
	Error         int
	// FirstError is the first verdict "error", and FirstErrorTrace its trace. Any
	// verdict "error" is a problem of the result too.
	FirstError      error
	FirstErrorTrace trace.ID
}

// Applied returns on how many traces the rule had something to say.
func (c *RuleCounts) Applied() int { return c.Pass + c.Violation + c.Error }

// Result is what a scan saw and judged.
type Result struct {
	Reading
	Traces TraceCounts
	// Rules holds one entry for each rule, in the order of ScanOptions.Rules.
	Rules []RuleCounts
	// Flags counts the traces that carry each of trace.FlagNames.
	Flags map[string]int
	// Earliest and Latest bound when the judged traces start; zero without any.
	Earliest, Latest time.Time
}

func newResult(rs []*rules.Rule) *Result {
	r := &Result{Rules: make([]RuleCounts, len(rs)), Flags: map[string]int{}}
	for i, rule := range rs {
		r.Rules[i].Rule = rule
	}
	return r
}

// see counts a trace that was read, of so many spans.
func (r *Result) see(spans int) {
	r.Traces.Seen++
	r.Traces.Spans += spans
}

// leaveOut counts a trace of a batch that is not judged, also in why.
func (r *Result) leaveOut(b *columnar.Batch, t int, why *int) {
	r.see(int(b.First[t+1] - b.First[t]))
	*why++
}

// admit counts trace t of a batch, which was judged.
func (r *Result) admit(b *columnar.Batch, t int) {
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

// Completeness says whether all was read and judged.
func (r *Result) Completeness() Completeness {
	switch {
	case len(r.Problems) > 0 || r.Skipped > 0:
		return Incomplete
	case r.Young:
		return Provisional
	}
	return Complete
}
