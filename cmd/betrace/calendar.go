package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/betracehq/betrace/scheduler"
)

// marks are the symbols of the states of windows, in the order of the legend.
var marks = []struct {
	state  scheduler.Completeness
	symbol string
	colour string
}{
	{scheduler.Complete, "#", green},
	{scheduler.Provisional, "~", yellow},
	{scheduler.Incomplete, "!", red},
	{scheduler.Missing, ".", grey},
}

// grid is the layout of a calendar: rows of windows.
type grid struct {
	// step is the length of a window, row that of a row.
	step, row time.Duration
	// label is the format of the start of a row.
	label string
	// group is the number of windows between two gaps.
	group int
}

const day = 24 * time.Hour

// grids are the layouts, each for ranges up to a length.
var grids = []struct {
	grid
	upTo time.Duration
}{
	{grid{5 * time.Minute, time.Hour, "2006-01-02 15:00", 3}, day},
	{grid{time.Hour, day, "2006-01-02", 6}, 31 * day},
	{grid{day, 28 * day, "2006-01-02", 7}, 0},
}

// gridOf returns the layout for a range. The last one is for all longer ranges.
func gridOf(length time.Duration) grid {
	for _, g := range grids {
		if length <= g.upTo {
			return g.grid
		}
	}
	return grids[len(grids)-1].grid
}

// maxColumns is the maximum number of windows in a row.
const maxColumns = 60

// gridFor returns a layout with the given length of windows.
func gridFor(step time.Duration) grid {
	for _, g := range grids {
		if g.step == step {
			return g.grid
		}
	}
	g := grid{step: step, label: "2006-01-02 15:04", group: 6}
	for _, row := range []time.Duration{time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour, day, 7 * day, 28 * day} {
		if row%step == 0 && row/step <= maxColumns {
			g.row = row
		}
	}
	if g.row == 0 {
		g.row = 24 * step
	}
	if g.step < time.Minute {
		g.label = "2006-01-02 15:04:05"
	}
	return g
}

// windows returns the windows of a range. They begin at multiples of the step, except the first one.
func (g grid) windows(covered []scheduler.RuleCoverage, from, to time.Time) []scheduler.Window {
	aligned := from.Truncate(g.step)
	if aligned.Equal(from) {
		return scheduler.Calendar(covered, from, to, g.step)
	}
	next := aligned.Add(g.step)
	if !next.Before(to) {
		return scheduler.Calendar(covered, from, to, 0)
	}
	return append(scheduler.Calendar(covered, from, next, 0), scheduler.Calendar(covered, next, to, g.step)...)
}

// print writes the calendar with its legend.
func (g grid) print(w io.Writer, windows []scheduler.Window, paint painter) error {
	var out strings.Builder
	columns := int(g.row / g.step)
	fmt.Fprintf(&out, "%-*s  %s\n", len(g.label), "", g.header(columns))
	row, column := time.Time{}, 0
	for i, window := range windows {
		start := window.From.Truncate(g.row)
		if i == 0 || !start.Equal(row) {
			if i > 0 {
				out.WriteString("\n")
			}
			row, column = start, 0
			fmt.Fprintf(&out, "%s  ", row.UTC().Format(g.label))
		}
		for at := int(window.From.Sub(row) / g.step); column < at; column++ {
			out.WriteString(g.gap(column) + " ")
		}
		out.WriteString(g.gap(column))
		for _, m := range marks {
			if m.state == window.State {
				out.WriteString(paint.paint(m.colour, m.symbol))
			}
		}
		column++
	}
	out.WriteString("\n\n")
	for _, m := range marks {
		fmt.Fprintf(&out, "%s %s   ", paint.paint(m.colour, m.symbol), m.state)
	}
	fmt.Fprintf(&out, "(one symbol: %s, UTC)\n", shortDuration(g.step))
	_, err := io.WriteString(w, out.String())
	return err
}

// gap returns the space before a column.
func (g grid) gap(column int) string {
	if column > 0 && column%g.group == 0 {
		return " "
	}
	return ""
}

// header returns the titles of the columns: the start of each group, relative to the row.
func (g grid) header(columns int) string {
	var line strings.Builder
	for column := 0; column < columns; column += g.group {
		at := time.Duration(column) * g.step
		title := "+" + shortDuration(at)
		switch {
		case at == 0 && g.row != time.Hour && g.row != day:
			title = "+0"
		case g.row == time.Hour:
			title = fmt.Sprintf(":%02d", int(at.Minutes()))
		case g.row == day:
			title = fmt.Sprintf("%02d:%02d", int(at.Hours()), int(at.Minutes())%60)
		}
		if len(title) > g.group {
			title = title[:min(len(title), 2)]
		}
		fmt.Fprintf(&line, "%-*s ", g.group, title)
	}
	return strings.TrimRight(line.String(), " ")
}

// shortDuration returns a duration without units that are zero, as 5m or 1h30m.
func shortDuration(d time.Duration) string {
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
