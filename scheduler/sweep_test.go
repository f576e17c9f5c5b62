package scheduler

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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
		"a negative time":              {func(s *Sweep) { s.Hold = -1 }, nil, "sweep all: start, settle and hold must be 0 or more"},
		"one schedule, other settle":   {same, func(s *Sweep) { s.Name, s.Settle = "b", 1 }, "sweeps all and b have the same schedule and so read blocks together: start, settle, hold and limits must be equal, or the schedules different"},
		"one schedule, other limits":   {func(s *Sweep) { s.Tenants = []string{"x"} }, func(s *Sweep) { s.Name, s.Tenants, s.Limits.Blocks = "b", []string{"y", "x"}, 1 }, "sweeps all and b have the same schedule and so read blocks together: start, settle, hold and limits must be equal, or the schedules different"},
		"one schedule, other tenants":  {func(s *Sweep) { s.Tenants = []string{"x"} }, func(s *Sweep) { s.Name, s.Tenants, s.Settle = "b", []string{"y"}, 1 }, ""},
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
