package scheduler

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Schedule is a cron expression in a time zone.
//
// The expression has five fields (minute, hour, day of month, month, day of week), or six with seconds first, or is a
// descriptor as @daily or @every 30s. @every counts from 1970-01-01 00:00 UTC, so that a restart does not move it.
//
// If the hour is *, the schedule follows elapsed time, and each hour of the day on which clocks change has its ticks.
// Otherwise it follows the wall clock: a time that the clocks skip in spring takes place when they have changed, and
// one that they repeat in autumn takes place once.
type Schedule struct {
	// Expression and TimeZone are as given. An empty time zone is UTC.
	Expression, TimeZone string

	spec     cron.Schedule
	location *time.Location
	// wall reports that the schedule follows the wall clock.
	wall bool
}

var cronParser = cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

// cronStar is the bit that the parser sets in a field that is *.
const cronStar = 1 << 63

// ParseSchedule parses a cron expression. It refuses an expression that never has a next time, as 0 0 30 2 *.
func ParseSchedule(expression, timeZone string) (*Schedule, error) {
	if name, _, ok := strings.Cut(expression, "="); ok {
		return nil, fmt.Errorf("schedule %q: %s is not part of an expression: set time_zone", expression, strings.TrimSpace(name))
	}
	location, err := time.LoadLocation(cmp.Or(timeZone, "UTC"))
	if err != nil {
		return nil, fmt.Errorf("time_zone %q: %w: want a name of the IANA database, as Europe/Berlin", timeZone, err)
	}
	if timeZone == "Local" {
		return nil, fmt.Errorf("time_zone %q: it depends on the machine: want a name of the IANA database, as Europe/Berlin", timeZone)
	}
	if text, ok := strings.CutPrefix(expression, "@every "); ok { // the parser makes a second of a shorter period
		if period, err := time.ParseDuration(text); err == nil && period < time.Second {
			return nil, fmt.Errorf("schedule %q: want a period of at least 1s", expression)
		}
	}
	spec, err := cronParser.Parse(expression)
	if err != nil {
		return nil, fmt.Errorf("schedule %q: %w: want five cron fields, as */5 * * * *, or @every 30s", expression, err)
	}
	s := &Schedule{Expression: expression, TimeZone: timeZone, spec: spec, location: location}
	switch spec := spec.(type) {
	case *cron.SpecSchedule:
		spec.Location = time.Local // the location of the argument of Next
		s.wall = spec.Hour&cronStar == 0
	case cron.ConstantDelaySchedule:
		s.spec = every(spec.Delay)
	}
	if s.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, fmt.Errorf("schedule %q: it has no next time: check the day and the month", expression)
	}
	return s, nil
}

// every is a schedule of the multiples of a duration since 1970.
type every time.Duration

// Next returns the first multiple after t.
func (e every) Next(t time.Time) time.Time {
	period := int64(e)
	return time.Unix(0, (t.UnixNano()/period+1)*period).In(t.Location())
}

// Next returns the first time of the schedule after t, in UTC. It is zero if there is none within five years.
func (s *Schedule) Next(t time.Time) time.Time {
	t = t.In(s.location)
	if !s.wall {
		return utc(s.spec.Next(t))
	}
	// The loop repeats for the times that the clocks skip or repeat: they have no instant of their own after t.
	for wall := onWall(t).Add(-time.Hour); ; {
		if wall = s.spec.Next(wall); wall.IsZero() {
			return time.Time{}
		}
		if at := s.instant(wall); at.After(t) {
			return utc(at)
		}
	}
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}

// onWall returns the date and time that a clock shows at t, as a time in UTC.
func onWall(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// instant returns the first time at which a clock in the location shows the given date and time. If the clock skips
// it, instant returns the time of the change.
func (s *Schedule) instant(wall time.Time) time.Time {
	at := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), wall.Nanosecond(), s.location)
	if !onWall(at).Equal(wall) {
		from, to := at.ZoneBounds()
		if onWall(at).After(wall) { // at is after the change
			return from
		}
		return to
	}
	// The same wall time may also have been before the last change.
	if change, _ := at.ZoneBounds(); !change.IsZero() {
		_, offset := at.Zone()
		_, before := change.Add(-1).Zone()
		if earlier := at.Add(time.Duration(offset-before) * time.Second); earlier.Before(change) && onWall(earlier).Equal(wall) {
			return earlier
		}
	}
	return at
}

// Due returns the last time of the schedule after last and not after now, and the number of times between the two that
// were missed. The time is zero if none is due.
func (s *Schedule) Due(last, now time.Time) (tick time.Time, missed int) {
	for next := s.Next(last); !next.IsZero() && !next.After(now); next = s.Next(next) {
		if !tick.IsZero() {
			missed++
		}
		tick = next
	}
	return tick, missed
}

// Previous returns the last time of the schedule before t. It is zero if there is none within ten years.
func (s *Schedule) Previous(t time.Time) time.Time {
	for back := time.Minute; back < 10*365*24*time.Hour; back *= 2 {
		if previous, _ := s.Due(t.Add(-back), t.Add(-1)); !previous.IsZero() {
			return previous
		}
	}
	return time.Time{}
}

// String returns the expression and the time zone.
func (s *Schedule) String() string { return s.Expression + " " + cmp.Or(s.TimeZone, "UTC") }
