package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/betracehq/betrace/scheduler/state"
)

// addFlagsOf adds the flags of some settings.
func (c *config) addFlagsOf(flags *pflag.FlagSet, names ...string) {
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.addFlags(all)
	for _, name := range names {
		flags.AddFlag(all.Lookup(name))
	}
}

// readState loads the configuration and calls f with one moment of the state, which it opens for reading. A running
// service is not disturbed.
func (p *program) readState(cmd *cobra.Command, f func(context.Context, *state.Reader) error) error {
	return p.withState(cmd, func(db *state.DB) error { return db.View(cmd.Context(), f) })
}

// writeState calls f with the state, which must exist, and which no other process may have open for writing. The
// configuration must be loaded.
func (p *program) writeState(ctx context.Context, f func(context.Context, *state.DB) error) (err error) {
	if err := p.config.hasState(); err != nil {
		return err
	}
	log, err := p.config.logger(p.stderr)
	if err != nil {
		return err
	}
	db, err := state.Open(ctx, state.Options{Path: p.config.State, Exclusive: true, Existing: true, Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return f(ctx, db)
}

// hasState returns an error if the configuration names no state.
func (c *config) hasState() error {
	if c.State == "" {
		return errors.New("no state: use --state, or --config with the configuration of the service")
	}
	return nil
}

// rangeFlags select a range of trace starts. All are optional.
type rangeFlags struct {
	since    time.Duration
	from, to string
}

func (f *rangeFlags) add(flags *pflag.FlagSet) {
	flags.DurationVar(&f.since, "since", 0, "traces that started within this `duration`, until now")
	flags.StringVar(&f.from, "from", "", "traces that started from this `time`: RFC 3339, or a date in UTC")
	flags.StringVar(&f.to, "to", "", "traces that started before this `time`")
}

// parse returns the range. The zero time is no bound.
func (f *rangeFlags) parse(now time.Time) (from, to time.Time, err error) {
	switch {
	case f.since < 0:
		return from, to, fmt.Errorf("--since %s: want a duration above 0", f.since)
	case f.since > 0 && f.from+f.to != "":
		return from, to, errors.New("--since with --from or --to: use one of them")
	case f.since > 0:
		return now.Add(-f.since), now, nil
	}
	var fromErr, toErr error
	if f.from != "" {
		from, fromErr = parseTime("--from", f.from)
	}
	if f.to != "" {
		to, toErr = parseTime("--to", f.to)
	}
	if err := errors.Join(fromErr, toErr); err != nil {
		return from, to, err
	}
	if !from.IsZero() && !to.IsZero() && !from.Before(to) {
		return from, to, fmt.Errorf("--from %s --to %s: the range ends before it starts", f.from, f.to)
	}
	return from, to, nil
}

// addOutput adds the flag for the format of the output.
func addOutput(flags *pflag.FlagSet, format *string) {
	flags.StringVarP(format, "output", "o", "table", "`format`: table or json")
}

func checkOutput(format string) error {
	if format != "table" && format != "json" {
		return fmt.Errorf("--output %q: want table or json", format)
	}
	return nil
}

func printJSON(to io.Writer, value any) error {
	e := json.NewEncoder(to)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(value)
}

// stamp returns a time for output, to the second, or "never".
func stamp(t time.Time) string { return cmp.Or(stampJSON(t), "never") }

// stampJSON returns a time in RFC 3339, or an empty string for the zero time.
func stampJSON(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// roughly returns a duration in at most two units, as 3d4h.
func roughly(d time.Duration) string {
	d = max(d, 0)
	days, hours, minutes := int(d.Hours())/24, int(d.Hours())%24, int(d.Minutes())%60
	switch {
	case days >= 10 || days > 0 && hours == 0:
		return fmt.Sprintf("%dd", days)
	case days > 0:
		return fmt.Sprintf("%dd%dh", days, hours)
	case hours > 0 && minutes > 0:
		return fmt.Sprintf("%dh%dm", hours, minutes)
	case hours > 0:
		return fmt.Sprintf("%dh", hours)
	case minutes > 0:
		return fmt.Sprintf("%dm", minutes)
	}
	return fmt.Sprintf("%ds", int(d.Seconds()))
}

// textWidth is the width of tables and sentences in output.
const textWidth = 80

// wrap returns words on lines of at most textWidth columns. Each line begins with the indent.
func wrap(indent, text string) string {
	var lines strings.Builder
	column := 0
	for word := range strings.FieldsSeq(text) {
		if column > 0 && column+1+len([]rune(word)) > textWidth {
			lines.WriteString("\n")
			column = 0
		}
		if column == 0 {
			lines.WriteString(indent)
			column = len(indent)
		} else {
			lines.WriteString(" ")
			column++
		}
		lines.WriteString(word)
		column += len([]rune(word))
	}
	return lines.String()
}

// Colours of terminals (ANSI SGR).
const (
	green, yellow, red, grey = "32", "33", "31", "90"
)

// painter adds colours to output on a terminal, unless NO_COLOR is set (no-color.org).
type painter bool

func newPainter(to io.Writer) painter {
	if checked, ok := to.(*checkedWriter); ok {
		to = checked.w
	}
	f, ok := to.(*os.File)
	return painter(ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd())))
}

// paint returns text in a colour.
func (p painter) paint(colour, text string) string {
	if !p || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}
