package scheduler

import (
	"cmp"
	"slices"
	"time"

	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/tempoclient/blocks"
)

// Reasons of holes.
const (
	// HoleExpired is the reason for a block that was deleted before it was judged.
	HoleExpired = "expired"
	// HoleOutage is the reason for blocks that may have been written and deleted while nothing was listed.
	HoleOutage = "outage"
	// HoleError is the reason for a verdict that could not be determined.
	HoleError = "error"
	// HoleUnread is the reason for a window that could not be read completely by Tempo's API.
	HoleUnread = "unread"
	// HoleSkipped is the reason for data that was not judged because ticks were missed, and the sweep does not catch up.
	HoleSkipped = "skipped by catch_up"
	// HoleCanary is the reason for a canary or a seeded violation that was not found.
	HoleCanary = "canary missed"
	// HoleAside is the reason for a block that cannot be read.
	HoleAside = "set aside"
	// HoleUnjudged is the reason for late data that waits to be judged.
	HoleUnjudged = "unjudged"
	// HoleBefore is the reason for data that was judged before the rule was loaded.
	HoleBefore = "before the rule"
)

// defaultMaxTraceDuration is the default maximum duration of a trace, as that of readings of blocks.
const defaultMaxTraceDuration = time.Hour

// Advance returns the ledger with the watermark that the last stable listing supports. Traces that start before the
// watermark are judged, except in holes: the listing began settle after that time, and no block that has to be judged
// holds earlier traces. The watermark does not decrease. Blocks that were set aside and late blocks do not hold it back,
// but are holes.
func (l Ledger) Advance(settle, maxTraceDuration time.Duration) Ledger {
	next := l.clone()
	next.Watermark = later(l.Watermark, l.Begins)
	if l.ListedAt.IsZero() {
		return next
	}
	mark := l.ListedAt.Add(-settle)
	for _, b := range l.Blocks {
		if isJudged(&b) || b.State == state.BlockAside || b.State == state.BlockReplaced {
			continue
		}
		from, _ := l.rangeOf(&b, maxTraceDuration)
		mark = earlier(mark, from)
	}
	next.Watermark = later(next.Watermark, mark)
	return next
}

// rangeOf returns the range of the starts of the traces in a block. If its times are unknown, they may be any up to its
// first listing, and later because this clock may have been behind then, and clocks of clients may be ahead.
func (l *Ledger) rangeOf(b *state.Block, maxTraceDuration time.Duration) (from, to time.Time) {
	maxTraceDuration = cmp.Or(maxTraceDuration, defaultMaxTraceDuration)
	if b.Latest.IsZero() {
		return l.Begins, later(later(b.FirstListed, b.End), l.Begins).Add(blocks.CompactedRetention/2 + maxTraceDuration)
	}
	return b.Earliest.Add(-maxTraceDuration), b.Latest.Add(1)
}

func (l *Ledger) holeOf(b *state.Block, reason string, maxTraceDuration time.Duration) state.Hole {
	from, to := l.rangeOf(b, maxTraceDuration)
	return state.Hole{Ledger: l.ID, From: from, To: to, Reason: reason, Subject: "block " + b.ID}
}

// RuleCoverage is the range of trace starts that a version of a rule covers.
type RuleCoverage struct {
	Rule state.LoadedRule
	// From is inclusive, To is exclusive. They are equal if the rule covers nothing yet.
	From, To time.Time
	// Holes are the parts of the range that the rule may not have judged completely, in order of their beginning.
	Holes []state.Hole
}

// Coverage returns the coverage of rules, in their order. holes are the stored holes of the ledger. The blocks that are
// set aside or wait with late data are further holes.
func Coverage(l Ledger, maxTraceDuration time.Duration, loaded []state.LoadedRule, holes []state.Hole) []RuleCoverage {
	open := slices.DeleteFunc(slices.Clone(holes), func(h state.Hole) bool { return h.ClosedEntry != 0 })
	present := l.presentHoles(maxTraceDuration)
	covered := make([]RuleCoverage, 0, len(loaded))
	for _, r := range loaded {
		c := RuleCoverage{Rule: r, From: later(r.Begins, l.Begins), To: l.Watermark}
		all := open
		if r.Ended.IsZero() {
			all = slices.Concat(open, present)
		} else {
			c.To = earlier(c.To, r.Ended)
		}
		c.To = later(c.To, c.From)
		for _, h := range all {
			isOfRule := h.Rule == "" || h.Pack == r.Pack && h.Rule == r.Rule && h.Digest == r.Digest
			h.From, h.To = later(h.From, c.From), earlier(h.To, c.To)
			if isOfRule && h.From.Before(h.To) {
				c.Holes = append(c.Holes, h)
			}
		}
		slices.SortStableFunc(c.Holes, func(a, b state.Hole) int {
			return cmp.Or(a.From.Compare(b.From), a.To.Compare(b.To),
				cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Subject, b.Subject))
		})
		covered = append(covered, c)
	}
	return covered
}

// presentHoles returns the holes below the watermark that exist until their blocks are judged.
func (l *Ledger) presentHoles(maxTraceDuration time.Duration) []state.Hole {
	var holes []state.Hole
	for _, b := range l.Blocks {
		reason := HoleUnjudged
		switch {
		case isJudged(&b) || b.State == state.BlockReplaced:
			continue
		case b.State == state.BlockAside:
			reason = HoleAside
		}
		if h := l.holeOf(&b, reason, maxTraceDuration); h.From.Before(l.Watermark) {
			h.To = earlier(h.To, l.Watermark)
			holes = append(holes, h)
		}
	}
	return holes
}

// BeginRules returns the versions of rules after those that judge were loaded, and the holes of the changed ones.
// previous are the versions that the ledger has had. A new version covers the traces that start from the frontier on,
// because earlier ones may have been judged without it. A version that is no longer loaded covers the traces that start
// before the watermark, and settle before the frontier. Pass the ledger as it was before the first tick with the rules.
// Only the pack, the rule, the digest, the title and the severity of each loaded version are used. entry is the number
// of the entry about that tick.
func BeginRules(
	loaded, previous []state.LoadedRule, l Ledger, settle, maxTraceDuration time.Duration, entry int64,
) ([]state.LoadedRule, []state.Hole) {
	var all []state.LoadedRule
	var holes []state.Hole
	begins := later(l.Frontier, l.Begins)
	for _, r := range previous {
		if r.Ended.IsZero() && !slices.ContainsFunc(loaded, func(n state.LoadedRule) bool { return sameVersion(&n, &r) }) {
			// The watermark may be from a clock that is ahead. The latest data is evidence of the time that does not
			// depend on this clock, but a client's clock may be ahead, too.
			r.Ended = later(later(earlier(l.Watermark, l.Frontier.Add(-settle)), r.Begins), l.Begins)
			for _, h := range l.presentHoles(maxTraceDuration) {
				holes = append(holes, ofRule(h, &r, entry))
			}
		}
		all = append(all, r)
	}
	for _, n := range loaded {
		if slices.ContainsFunc(all, func(r state.LoadedRule) bool { return r.Ended.IsZero() && sameVersion(&n, &r) }) {
			continue
		}
		n.Ledger, n.Begins, n.SinceEntry, n.Ended = l.ID, begins, entry, time.Time{}
		for _, b := range l.Blocks {
			// Clocks of clients may be ahead, so data from after the frontier may have been judged.
			if b.State != state.BlockJudged || !b.Latest.IsZero() && b.Latest.Before(l.Frontier) {
				continue
			}
			h := ofRule(l.holeOf(&b, HoleBefore, maxTraceDuration), &n, entry)
			if h.From = later(h.From, begins); h.From.Before(h.To) {
				holes = append(holes, h)
			}
		}
		// A version that was removed and loaded again before anything was judged goes on.
		again := slices.IndexFunc(all, func(r state.LoadedRule) bool { return sameVersion(&n, &r) && r.Begins.Equal(begins) })
		if again >= 0 {
			all[again] = n
		} else {
			all = append(all, n)
		}
	}
	return all, holes
}

func sameVersion(a, b *state.LoadedRule) bool {
	return a.Pack == b.Pack && a.Rule == b.Rule && a.Digest == b.Digest
}

func ofRule(h state.Hole, r *state.LoadedRule, entry int64) state.Hole {
	h.Pack, h.Rule, h.Digest, h.Entry = r.Pack, r.Rule, r.Digest, entry
	return h
}
