package scheduler

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/rules"
)

func TestCheckSweepsRefuses(t *testing.T) {
	often, err := ParseSchedule("@every 5m", "")
	require.NoError(t, err)
	rarely, err := ParseSchedule("@every 1h", "")
	require.NoError(t, err)
	sweep := func(change func(*Sweep)) Sweep {
		s := Sweep{Name: "all", Schedule: often, Tenants: []string{"*"}, Packs: []string{"rules"}, Start: time.Hour}
		change(&s)
		return s
	}
	same := func(*Sweep) {}
	for name, tt := range map[string]struct {
		first, second func(*Sweep)
		want          string
	}{
		"a name with a space":          {func(s *Sweep) { s.Name = "a b" }, nil, `sweep "a b": want a name of a-z, 0-9 and - . _ between them`},
		"two of a name":                {same, same, "sweep all: two sweeps have this name: rename one"},
		"no schedule":                  {func(s *Sweep) { s.Schedule = nil }, nil, "sweep all: schedule is missing: want a cron expression, as */5 * * * *"},
		"no packs":                     {func(s *Sweep) { s.Packs = nil }, nil, "sweep all: packs is empty: name files or folders with rule packs"},
		"an empty tenant":              {func(s *Sweep) { s.Tenants = []string{""} }, nil, `sweep all: tenants has an empty name: want names of tenants, or "*"`},
		"a recheck before settle":      {func(s *Sweep) { s.Settle, s.Recheck = 2, 1 }, nil, "sweep all: recheck 1ns must be longer than settle 2ns, or 0"},
		"a negative time":              {func(s *Sweep) { s.Hold = -1 }, nil, "sweep all: start, settle, recheck, recent, hold, jitter, canary and seeded_violation must be 0 or more"},
		"another way to catch up":      {func(s *Sweep) { s.CatchUp = "some" }, nil, `sweep all: catch_up is "some": want all, latest or none`},
		"a negative limit":             {func(s *Sweep) { s.Limits.Cost = -1 }, nil, "sweep all: limits must be 0 or more"},
		"one schedule, the default":    {same, func(s *Sweep) { s.Name, s.CatchUp = "b", CatchUpAll }, ""},
		"one schedule, other catch_up": {same, func(s *Sweep) { s.Name, s.CatchUp = "b", CatchUpNone }, "sweeps all and b have the same schedule and so read blocks together: start, settle, recheck, recent, hold, jitter, canary, seeded_violation, catch_up and limits must be equal, or the schedules different"},
		"one schedule, other settle":   {same, func(s *Sweep) { s.Name, s.Settle = "b", 1 }, "sweeps all and b have the same schedule and so read blocks together: start, settle, recheck, recent, hold, jitter, canary, seeded_violation, catch_up and limits must be equal, or the schedules different"},
		"one schedule, other limits":   {func(s *Sweep) { s.Tenants = []string{"x"} }, func(s *Sweep) { s.Name, s.Tenants, s.Limits.Blocks = "b", []string{"y", "x"}, 1 }, "sweeps all and b have the same schedule and so read blocks together: start, settle, recheck, recent, hold, jitter, canary, seeded_violation, catch_up and limits must be equal, or the schedules different"},
		"one schedule, other tenants":  {func(s *Sweep) { s.Tenants = []string{"x"} }, func(s *Sweep) { s.Name, s.Tenants, s.Settle = "b", []string{"y"}, 1 }, ""},
		"one tenant, other results":    {func(s *Sweep) { s.Tenants = []string{"x"} }, func(s *Sweep) { s.Name, s.Schedule, s.ResultsTenant = "b", rarely, "ops" }, "sweeps all and b read the same tenant: results_tenant must be equal, because a violation is filed once"},
		"other schedule, other settle": {same, func(s *Sweep) { s.Name, s.Schedule, s.Settle = "b", rarely, 1 }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			sweeps := []Sweep{sweep(tt.first)}
			if tt.second != nil {
				sweeps = append(sweeps, sweep(tt.second))
			}
			err := CheckSweeps(sweeps)
			if tt.want == "" {
				require.NoError(t, err)
			} else {
				require.EqualError(t, err, tt.want)
			}
		})
	}
}

func TestSelectorsSelectRulesByTheirLabels(t *testing.T) {
	pack := &rules.Pack{Name: "payments"}
	labelled := &rules.Rule{ID: "a", Pack: pack, Severity: "high", Labels: map[string]string{"team": "pay", "env-name": "prod"}, Controls: []string{"soc2:CC6.1"}}
	plain := &rules.Rule{ID: "b", Pack: pack, Severity: "low"}
	for text, want := range map[string][2]bool{ // of labelled and plain
		`labels.team == "pay"`:                     {true, false},
		`labels.team != "pay"`:                     {false, true},
		`"team" in labels`:                         {true, false},
		`labels["env-name"] == "prod"`:             {true, false},
		`labels.owner == ""`:                       {true, true},
		`severity in ["critical", "high"]`:         {true, false},
		`rule == "b" && pack.startsWith("pay")`:    {false, true},
		`controls.exists(c, c.startsWith("soc2"))`: {true, false},
		`!(labels.team == "pay" || rule == "b")`:   {false, false},
	} {
		s, err := ParseSelector(text)
		require.NoError(t, err, text)
		for i, r := range []*rules.Rule{labelled, plain} {
			matches, err := s.Matches(r)
			require.NoError(t, err, text)
			require.Equal(t, want[i], matches, "%s: rule %s", text, r.ID)
		}
	}
	for text, want := range map[string]string{
		`label.team == "pay"`: "undeclared reference to 'label'",
		`labels.team`:         "it is a string: want a condition",
		`labels.team == 1`:    "no matching overload",
	} {
		_, err := ParseSelector(text)
		require.ErrorContains(t, err, want)
	}
}

// TestJitterDelaysEachPassByItsOwnTime checks that the delays are fixed, differ, and stay below the jitter.
func TestJitterDelaysEachPassByItsOwnTime(t *testing.T) {
	often, err := ParseSchedule("@every 5m", "")
	require.NoError(t, err)
	sweep := Sweep{Name: "all", Schedule: often, Tenants: []string{"*"}, Packs: []string{"rules"}}
	var tenants []string
	for i := range 100 {
		tenants = append(tenants, fmt.Sprintf("tenant-%d", i))
	}
	for _, p := range passesOf([]Sweep{sweep}, tenants) {
		require.Zero(t, p.delay())
	}
	sweep.Jitter = time.Minute
	delays := map[time.Duration]bool{}
	again := passesOf([]Sweep{sweep}, tenants)
	for i, p := range passesOf([]Sweep{sweep}, tenants) {
		require.Less(t, p.delay(), time.Minute)
		require.Equal(t, again[i].delay(), p.delay())
		delays[p.delay()] = true
	}
	require.Greater(t, len(delays), 90)
}
