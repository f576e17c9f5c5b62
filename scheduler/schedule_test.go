package scheduler

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNextTimes(t *testing.T) {
	for _, tt := range []struct {
		expression, zone, after string
		want                    []string
	}{
		{"*/5 * * * *", "", "2026-03-01T12:02:00Z", []string{"2026-03-01T12:05:00Z", "2026-03-01T12:10:00Z"}},
		{"*/20 * * * * *", "", "2026-03-01T12:00:15Z", []string{"2026-03-01T12:00:20Z", "2026-03-01T12:00:40Z", "2026-03-01T12:01:00Z"}},
		{"@every 7s", "", "1970-01-01T00:00:08Z", []string{"1970-01-01T00:00:14Z", "1970-01-01T00:00:21Z"}},
		{"@daily", "Europe/Berlin", "2026-06-01T12:00:00Z", []string{"2026-06-01T22:00:00Z", "2026-06-02T22:00:00Z"}},
		{"0 0 29 2 *", "", "2026-03-01T00:00:00Z", []string{"2028-02-29T00:00:00Z"}},
		// In Berlin, clocks go from 02:00 to 03:00 at 01:00 UTC on 2026-03-29, and from 03:00 to 02:00 at 01:00 UTC on 2026-10-25.
		{"30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", []string{"2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"}},
		{"0,30 2,3 * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", []string{"2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:00:00Z"}},
		{"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", []string{"2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"}},
		{"*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", []string{"2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:00:00Z"}},
		// Lord Howe Island changes its clocks by half an hour, at 15:00 UTC.
		{"15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", []string{"2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"}},
	} {
		s, err := ParseSchedule(tt.expression, tt.zone)
		require.NoError(t, err, tt.expression)
		at, err := time.Parse(time.RFC3339, tt.after)
		require.NoError(t, err)
		for _, want := range tt.want {
			at = s.Next(at)
			require.Equal(t, want, at.Format(time.RFC3339), "%s in %s", tt.expression, tt.zone)
		}
	}
}

// Over years in zones with changes of many kinds, the times of a daily schedule are one for each day, and increase.
func TestADailyTimeIsNeitherSkippedNorDoubled(t *testing.T) {
	for _, zone := range []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Africa/Cairo", "Asia/Gaza"} {
		for _, expression := range []string{"30 2 * * *", "0 0 * * *", "15 1 * * *", "59 23 * * *"} {
			s, err := ParseSchedule(expression, zone)
			require.NoError(t, err)
			at := s.Next(time.Date(2024, 1, 1, 12, 0, 0, 0, time.UTC))
			first := at.In(s.location)
			for day := time.Date(first.Year(), first.Month(), first.Day()+1, 12, 0, 0, 0, time.UTC); day.Year() < 2028; day = day.AddDate(0, 0, 1) {
				next := s.Next(at)
				require.True(t, next.After(at))
				require.Equal(t, day.Format(time.DateOnly), next.In(s.location).Format(time.DateOnly), "%s in %s", expression, zone)
				at = next
			}
		}
	}
}

func TestSchedulesThatAreRefused(t *testing.T) {
	for _, tt := range []struct{ expression, zone, want string }{
		{"TZ=0 * * * * *", "", `schedule "TZ=0 * * * * *": TZ is not part of an expression: set time_zone`},
		{"CRON_TZ=UTC * * * * *", "", `schedule "CRON_TZ=UTC * * * * *": CRON_TZ is not part of an expression: set time_zone`},
		{"0 0 30 2 *", "", `schedule "0 0 30 2 *": it has no next time: check the day and the month`},
		{"* * *", "", `schedule "* * *": expected 5 to 6 fields, found 3: [* * *]: want five cron fields, as */5 * * * *, or @every 30s`},
		{"@every 0s", "", `schedule "@every 0s": want a period of at least 1s`},
		{"* * * * *", "Mars/Olympus", `time_zone "Mars/Olympus": unknown time zone Mars/Olympus: want a name of the IANA database, as Europe/Berlin`},
		{"* * * * *", "Local", `time_zone "Local": it depends on the machine: want a name of the IANA database, as Europe/Berlin`},
	} {
		_, err := ParseSchedule(tt.expression, tt.zone)
		require.EqualError(t, err, tt.want)
	}
}

func TestMissedTicksAreCounted(t *testing.T) {
	s, err := ParseSchedule("*/5 * * * *", "")
	require.NoError(t, err)
	at := func(text string) time.Time {
		at, err := time.Parse(time.RFC3339, "2026-03-01T"+text+"Z")
		require.NoError(t, err)
		return at
	}
	tick, missed := s.Due(at("12:00:00"), at("12:04:59"))
	require.True(t, tick.IsZero())
	require.Zero(t, missed)
	tick, missed = s.Due(at("12:00:00"), at("12:05:00"))
	require.Equal(t, at("12:05:00"), tick)
	require.Zero(t, missed)
	tick, missed = s.Due(at("12:00:00"), at("12:31:00"))
	require.Equal(t, at("12:30:00"), tick)
	require.Equal(t, 5, missed)
}

func TestPreviousTimes(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 5, 0, 0, time.UTC)
	for expression, want := range map[string]time.Time{
		"*/5 * * * *": at.Add(-5 * time.Minute),
		"@every 1s":   at.Add(-time.Second),
		"0 3 * * *":   time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC),
		"0 0 29 2 *":  time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC),
	} {
		s, err := ParseSchedule(expression, "")
		require.NoError(t, err)
		require.Equal(t, want, s.Previous(at), expression)
	}
}
