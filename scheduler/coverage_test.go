package scheduler

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/scheduler/state"
)

// minute returns a time after noon.
func minute(n int) time.Time { return noon.Add(time.Duration(n) * time.Minute) }

// judgedUpTo returns a ledger that began at noon, after a listing at 13:00 in which all given blocks were judged.
func judgedUpTo(t *testing.T, ids ...string) Ledger {
	t.Helper()
	ledger, holes := Ledger{Ledger: state.Ledger{ID: 1, Begins: noon}}.Next(listingOf(minute(60), ids...), testOptions)
	require.Empty(t, holes)
	return ledger.SetTimes(timesOf(ids...)).Commit(ids, nil, 1, minute(60))
}

func TestAdvance(t *testing.T) {
	const settle, maxDuration = 10 * time.Minute, 5 * time.Minute
	for name, tt := range map[string]struct {
		ledger func() Ledger
		want   time.Time
	}{
		"no listing":           {func() Ledger { return Ledger{Ledger: state.Ledger{Begins: noon}} }, noon},
		"everything is judged": {func() Ledger { return judgedUpTo(t, "a0") }, minute(50)},
		"a block waits": {func() Ledger {
			next, _ := judgedUpTo(t, "a0").Next(listingOf(minute(61), "a0", "j0"), testOptions)
			return next.SetTimes(timesOf("j0"))
		}, minute(9 - 5)},
		"a block without times waits": {func() Ledger {
			next, _ := judgedUpTo(t, "a0").Next(listingOf(minute(61), "a0", "j0"), testOptions)
			return next
		}, noon},
		"a late block does not lower it": {func() Ledger {
			next, _ := judgedUpTo(t, "a0").Advance(settle, maxDuration).Next(listingOf(minute(61), "a0", "j0"), testOptions)
			return next.SetTimes(timesOf("j0"))
		}, minute(50)},
		"a block that is set aside does not stop it": {func() Ledger {
			next, _ := judgedUpTo(t, "a0").Next(listingOf(minute(61), "a0", "j0"), testOptions)
			for range failuresAside {
				next = next.Commit(nil, map[string]error{"j0": errors.New("damaged")}, 2, minute(61))
			}
			return next
		}, minute(51)},
		"an unstable listing does not raise it": {func() Ledger {
			listing := listingOf(minute(90), "a0")
			listing.Unstable = true
			next, _ := judgedUpTo(t, "a0").Next(listing, testOptions)
			return next
		}, minute(50)},
		"a clock that was ahead": {func() Ledger {
			next, _ := judgedUpTo(t, "a0").Advance(settle, maxDuration).Next(listingOf(minute(30), "a0"), testOptions)
			return next
		}, minute(20)},
	} {
		t.Run(name, func(t *testing.T) {
			ledger := tt.ledger()
			before := ledger.clone()
			require.Equal(t, tt.want, ledger.Advance(settle, maxDuration).Watermark)
			require.Equal(t, before, ledger.clone(), "Advance must not change its receiver")
		})
	}
}

// spelled returns the coverage of rules in words: from and to in minutes after noon, and the holes.
func spelled(covered []RuleCoverage) string {
	var lines []string
	for _, c := range covered {
		line := c.Rule.Rule + c.Rule.Digest + " " + c.From.Format("15:04") + "-" + c.To.Format("15:04")
		for _, h := range c.Holes {
			line += ", " + h.From.Format("15:04") + "-" + h.To.Format("15:04") + " " + h.Reason
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "; ")
}

func loaded(versions ...string) []state.LoadedRule {
	var rules []state.LoadedRule
	for _, v := range versions {
		rules = append(rules, state.LoadedRule{Pack: "pack", Rule: v[:1], Digest: v[1:]})
	}
	return rules
}

// A version of a rule covers the traces that start after the data that was judged before it was loaded.
func TestCoverageOfRules(t *testing.T) {
	const maxDuration = 5 * time.Minute
	ledger := judgedUpTo(t, "a0").Advance(0, maxDuration)
	rules, holes := BeginRules(loaded("x1"), nil, Ledger{Ledger: state.Ledger{ID: 1, Begins: noon}}, 0, maxDuration, 1)
	require.Empty(t, holes)
	require.Equal(t, "x1 12:00-13:00", spelled(Coverage(ledger, maxDuration, rules, nil)))

	again, holes := BeginRules(loaded("x1"), rules, ledger, 0, maxDuration, 2)
	require.Empty(t, holes)
	require.Equal(t, rules, again, "nothing changed")

	// The block that was judged ends at 12:01, inclusive.
	changed, holes := BeginRules(loaded("x2", "y1"), rules, ledger, 0, maxDuration, 2)
	require.Empty(t, holes)
	require.Equal(t, minute(1).Add(1), changed[1].Begins)
	require.Equal(t, "x1 12:00-12:01; x2 12:01-13:00; y1 12:01-13:00", spelled(Coverage(ledger, maxDuration, changed, nil)))
	require.EqualValues(t, 2, changed[1].SinceEntry)

	// A late block is a hole of the rules that will judge it, and remains one of those that will not.
	late, _ := ledger.Next(listingOf(minute(61), "a0", "j0"), testOptions)
	late = late.SetTimes(timesOf("j0")).Advance(0, maxDuration)
	require.Equal(t, "x1 12:00-13:00, 12:04-12:10 unjudged", spelled(Coverage(late, maxDuration, rules, nil)))
	changed, holes = BeginRules(loaded("x2"), rules, late, 0, maxDuration, 2)
	late = late.Commit([]string{"j0"}, nil, 3, minute(62)).Advance(0, maxDuration)
	require.Equal(t, "x1 12:00-12:01; x2 12:01-13:01", spelled(Coverage(late, maxDuration, changed, holes)))

	// Holes belong to all rules, or to one version, until they are closed.
	holes = []state.Hole{
		{From: minute(10), To: minute(20), Reason: HoleExpired},
		{From: minute(5), To: minute(6), Reason: HoleError, Pack: "pack", Rule: "y", Digest: "1"},
		{From: minute(30), To: minute(40), Reason: HoleExpired, ClosedEntry: 7},
		{From: minute(59), To: minute(90), Reason: HoleOutage},
	}
	rules, _ = BeginRules(loaded("x1", "y1"), nil, Ledger{Ledger: state.Ledger{ID: 1, Begins: noon}}, 0, maxDuration, 1)
	require.Equal(t, "x1 12:00-13:00, 12:10-12:20 expired, 12:59-13:00 outage; y1 12:00-13:00, 12:05-12:06 error, 12:10-12:20 expired, 12:59-13:00 outage",
		spelled(Coverage(ledger, maxDuration, rules, holes)))
}

// Data from the future, and blocks without times, may contain traces that a new version has not judged.
func TestRulesAfterDataFromTheFuture(t *testing.T) {
	const maxDuration = 5 * time.Minute
	ledger, _ := Ledger{Ledger: state.Ledger{ID: 1, Begins: noon}}.Next(listingOf(minute(60), "a0", "b0"), testOptions)
	ledger = ledger.SetTimes(map[string]BlockTimes{"a0": {minute(1), minute(200)}}).Commit([]string{"a0", "b0"}, nil, 1, minute(60)).Advance(0, maxDuration)
	require.Equal(t, minute(60), ledger.Frontier)
	rules, holes := BeginRules(loaded("x1"), nil, ledger, 0, maxDuration, 2)
	ledger, _ = ledger.Next(listingOf(minute(300), "a0", "b0"), testOptions)
	ledger = ledger.Advance(0, maxDuration)
	require.Equal(t, "x1 13:00-17:00, 13:00-13:35 before the rule, 13:00-15:20 before the rule", spelled(Coverage(ledger, maxDuration, rules, holes)))
}

// The watermark of a clock that is ahead is later than the data. A version that ends then must not cover the traces
// that arrive afterwards.
func TestRulesThatEndWhileTheClockIsAhead(t *testing.T) {
	const maxDuration = 5 * time.Minute
	rules, _ := BeginRules(loaded("x1"), nil, Ledger{Ledger: state.Ledger{ID: 1, Begins: noon}}, 0, maxDuration, 1)
	ledger, _ := judgedUpTo(t, "a0").Next(listingOf(noon.AddDate(0, 0, 1), "a0"), testOptions)
	rules, _ = BeginRules(loaded("x2"), rules, ledger.Advance(0, maxDuration), 30*time.Second, maxDuration, 2)
	require.Equal(t, minute(1).Add(1-30*time.Second), rules[0].Ended, "the clock of a client may be ahead, too")
}

func TestCalendar(t *testing.T) {
	rule := func(from, to int, ended bool, holes ...state.Hole) RuleCoverage {
		c := RuleCoverage{From: minute(from), To: minute(to), Holes: holes}
		if ended {
			c.Rule.Ended = minute(to)
		}
		return c
	}
	for name, tt := range map[string]struct {
		covered []RuleCoverage
		want    string // the windows of ten minutes
	}{
		"no rule":                            {nil, "missing missing missing"},
		"complete":                           {[]RuleCoverage{rule(0, 30, false)}, "complete complete complete"},
		"the watermark is behind":            {[]RuleCoverage{rule(0, 15, false)}, "complete provisional provisional"},
		"a rule that begins later":           {[]RuleCoverage{rule(10, 30, false)}, "missing complete complete"},
		"a rule that begins within a window": {[]RuleCoverage{rule(5, 30, false)}, "incomplete complete complete"},
		"a rule that has ended":              {[]RuleCoverage{rule(0, 15, true)}, "complete incomplete missing"},
		"a hole":                             {[]RuleCoverage{rule(0, 30, false, state.Hole{From: minute(10), To: minute(11)})}, "complete incomplete complete"},
		"the worst rule counts": {[]RuleCoverage{rule(0, 30, false), rule(0, 20, false), rule(10, 30, false)},
			"missing complete provisional"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, w := range Calendar(tt.covered, noon, minute(30), 10*time.Minute) {
				require.Equal(t, 10*time.Minute, w.To.Sub(w.From))
				require.Equal(t, len(w.Holes) > 0, name == "a hole" && w.State == Incomplete)
				got = append(got, w.State.String())
			}
			require.Equal(t, tt.want, strings.Join(got, " "))
		})
	}
	require.Len(t, Calendar(nil, noon, minute(25), 10*time.Minute), 3, "the last window is shorter")
	require.Equal(t, []Window{{From: noon, To: minute(25), State: Missing}}, Calendar(nil, noon, minute(25), 0))
	require.Empty(t, Calendar(nil, noon, noon, 0))
}
