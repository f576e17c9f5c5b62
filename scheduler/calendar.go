package scheduler

import (
	"slices"
	"time"

	"github.com/betracehq/betrace/scheduler/state"
)

// Completeness is the state of a window of trace starts. Of several rules the last one in this order counts.
type Completeness uint8

// The states of a window.
const (
	// Complete means that every trace that starts in the window was judged.
	Complete Completeness = iota
	// Provisional means that more spans may still arrive.
	Provisional
	// Missing means that no trace was judged, because the rule or the ledger began later, or the rule ended before.
	Missing
	// Incomplete means that a part of the window was not judged.
	Incomplete
)

var completenessNames = [...]string{"complete", "provisional", "missing", "incomplete"}

// String returns the name as in the output of commands.
func (c Completeness) String() string { return completenessNames[c] }

// Window is a window of trace starts in a calendar.
type Window struct {
	// From is inclusive, To is exclusive.
	From, To time.Time
	State    Completeness
	// Holes are the holes that overlap the window.
	Holes []state.Hole
}

// Calendar returns the windows of a range, each of length step or, at the end, shorter. A step of 0 or less is the whole
// range. In each window the worst state of the rules counts; without a rule everything is missing.
func Calendar(covered []RuleCoverage, from, to time.Time, step time.Duration) []Window {
	if step <= 0 {
		step = max(to.Sub(from), 1)
	}
	var windows []Window
	for ; from.Before(to); from = from.Add(step) {
		w := Window{From: from, To: earlier(from.Add(step), to)}
		if len(covered) == 0 {
			w.State = Missing
		}
		for i := range covered {
			completeness, holes := covered[i].in(w.From, w.To)
			w.State = max(w.State, completeness)
			for _, h := range holes {
				if !slices.Contains(w.Holes, h) {
					w.Holes = append(w.Holes, h)
				}
			}
		}
		windows = append(windows, w)
	}
	return windows
}

// in returns the state of a window, and its holes.
func (c *RuleCoverage) in(from, to time.Time) (Completeness, []state.Hole) {
	var holes []state.Hole
	for _, h := range c.Holes {
		if h.From.Before(to) && from.Before(h.To) {
			holes = append(holes, h)
		}
	}
	hasEnded := !c.Rule.Ended.IsZero()
	switch {
	case !c.From.Before(to) || hasEnded && !from.Before(c.To):
		return Missing, nil
	case len(holes) > 0 || from.Before(c.From) || hasEnded && c.To.Before(to):
		return Incomplete, holes
	case c.To.Before(to):
		return Provisional, nil
	}
	return Complete, nil
}
