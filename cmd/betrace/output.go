package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/trace"
)

// output prints violations as they are found, and the summary at the end.
type output interface {
	violations([]evidence.Violation) error
	summary(*summary) error
}

func newOutput(format string, w io.Writer) (output, error) {
	switch format {
	case "table":
		return &tableOutput{w: w}, nil
	case "json":
		return &jsonOutput{w: w}, nil
	case "jsonl":
		return &jsonlOutput{w: w}, nil
	}
	return nil, fmt.Errorf("--output %q: %w", format, errOutput)
}

// tableOutput prints text for people.
type tableOutput struct {
	w     io.Writer
	shown bool
	// ruleWidth is the width of the column of rules, which fits at least the first violations.
	ruleWidth int
}

func (o *tableOutput) violations(vs []evidence.Violation) error {
	if !o.shown {
		o.shown = true
		o.ruleWidth = 40
		for _, v := range vs {
			o.ruleWidth = max(o.ruleWidth, len(v.Pack)+1+len(v.RuleID))
		}
		if err := o.row("SEVERITY", "RULE", "TRACE", "STARTED", "MESSAGE"); err != nil {
			return err
		}
	}
	for _, v := range vs {
		if err := o.row(v.Severity, v.Pack+"/"+v.RuleID, v.TraceID.String(), v.TraceStart.Time().Format("2006-01-02T15:04:05.000Z"), oneLine(v.Message)); err != nil {
			return err
		}
	}
	return nil
}

// secondSearchLine returns the second search as text.
func secondSearchLine(s *trace.SecondSearch) string {
	return fmt.Sprintf("%s added by a second search of %s and later", counted(s.Added, "trace"), s.From.Format(time.RFC3339))
}

func (o *tableOutput) row(severity, rule, traceID, started, message string) error {
	_, err := fmt.Fprintf(o.w, "%-8s  %-*s  %-32s  %-24s  %s\n", severity, o.ruleWidth, rule, traceID, started, message)
	return err
}

// problemLine returns a problem as one line of output.
func problemLine(p trace.Problem) string { return p.What + ": " + oneLine(p.Err.Error()) }

// oneLine replaces the characters with which the text of a trace could break lines or control a terminal.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, text)
}

func (o *tableOutput) summary(s *summary) error {
	w := tabwriter.NewWriter(o.w, 0, 4, 2, ' ', 0)
	if o.shown {
		fmt.Fprintln(w)
	}
	if s.From != "" {
		fmt.Fprintf(w, "range\t%s to %s\n", s.From, s.To)
	}
	why := ""
	if s.Result == trace.Provisional {
		why = ": spans of the newest traces may still arrive; scan again to confirm"
	}
	fmt.Fprintf(w, "result\t%s%s\n", s.Result, why)
	for _, problem := range s.Problems {
		fmt.Fprintf(w, "\t%s\n", problemLine(problem))
	}
	if s.MoreProblems > 0 {
		fmt.Fprintf(w, "\tand %d more\n", s.MoreProblems)
	}
	fmt.Fprintf(w, "traces\t%d seen (%d spans, by %s), %d outside the range, %d skipped, %d BeTrace's own, %d outside the query, %d judged\n",
		s.Traces.Seen, s.Traces.Spans, s.Basis, s.Traces.OutsideRange, s.Traces.Skipped, s.Traces.Own, s.Traces.OutsideQuery, s.Traces.Judged)
	if s.SecondSearch != nil {
		fmt.Fprintf(w, "\t%s\n", secondSearchLine(s.SecondSearch))
	}
	if s.Files.remarkable() {
		fmt.Fprintf(w, "files\t%s\n", s.Files)
	}
	for _, name := range sortedNames(s.Flags) {
		fmt.Fprintf(w, "\t%d flagged %s\n", s.Flags[name], name)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	w = tabwriter.NewWriter(o.w, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "\nviolation\terror\tpass\tnot applicable\t  rule\n")
	for _, r := range s.Rules {
		fmt.Fprintf(w, "%d\t%d\t%d\t%d\t  %s\n", r.Violation, r.Error, r.Pass, r.NotApplicable, r.Rule)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, sink := range s.Sinks {
		_, err := fmt.Fprintf(o.w, "\n%s: %d written, %d of them read back, %d were there already, %d missing", sink.Sink, sink.Written, sink.Confirmed, sink.AlreadyThere, sink.Missing)
		if err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(o.w, "\ntook %s\n", time.Duration(s.Seconds*float64(time.Second)).Round(time.Millisecond))
	return err
}

// violationJSON returns the record, as in Loki, with the circumstances added.
func violationJSON(v evidence.Violation) (json.RawMessage, error) {
	line, err := v.Record()
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(line, &fields); err != nil {
		return nil, fmt.Errorf("record of violation %s: %w", v.ID, err)
	}
	c := circumstances{Origin: v.Origin, Provisional: v.Provisional, Engine: v.Engine}
	c.Window.Start, c.Window.End = v.WindowStart.UTC().Format(time.RFC3339Nano), v.WindowEnd.UTC().Format(time.RFC3339Nano)
	if fields["circumstances"], err = json.Marshal(c); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	err = e.Encode(fields)
	return bytes.TrimSpace(out.Bytes()), err
}

// circumstances describe the run that found a violation. Loki has them as labels and structured metadata.
type circumstances struct {
	Engine      string          `json:"engine"`
	Origin      evidence.Origin `json:"origin"`
	Provisional bool            `json:"provisional"`
	Window      struct {
		End   string `json:"end"`
		Start string `json:"start"`
	} `json:"window"`
}

// jsonlOutput writes one object a line: {"violation": …} each, then {"summary": …}.
type jsonlOutput struct{ w io.Writer }

func (o *jsonlOutput) violations(vs []evidence.Violation) error {
	for _, v := range vs {
		line, err := violationJSON(v)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(o.w, "{\"violation\":%s}\n", line); err != nil {
			return err
		}
	}
	return nil
}

func (o *jsonlOutput) summary(s *summary) error {
	line, err := json.Marshal(s)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(o.w, "{\"summary\":%s}\n", line)
	return err
}

// jsonOutput writes one object: {"violations": […], "summary": …}.
type jsonOutput struct {
	w     io.Writer
	shown bool
}

func (o *jsonOutput) violations(vs []evidence.Violation) error {
	for _, v := range vs {
		before := ",\n"
		if !o.shown {
			o.shown, before = true, "{\"violations\": [\n"
		}
		line, err := violationJSON(v)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(o.w, "%s%s", before, line); err != nil {
			return err
		}
	}
	return nil
}

func (o *jsonOutput) summary(s *summary) error {
	before := "\n"
	if !o.shown {
		before = "{\"violations\": ["
	}
	line, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(o.w, "%s],\n\"summary\": %s}\n", before, line)
	return err
}
