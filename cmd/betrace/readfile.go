package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/analyzer"
	"github.com/betracehq/betrace/trace/otlp"
)

// readFile reads the traces of a file, or of standard input, and adds its result to
// the reading.
func (s *selection) readFile(ctx context.Context, name string, spans *otlp.Collector, reading *analyzer.Reading) {
	in, done, err := s.openFile(ctx, name)
	if err != nil {
		reading.Problems = append(reading.Problems, analyzer.Problem{What: "file " + name, Why: err.Error()})
		return
	}
	defer done()
	empty := true
	report := otlp.ReadFile(in, func(td ptrace.Traces) error {
		empty = empty && td.SpanCount() == 0
		return cmp.Or(context.Cause(ctx), spans.Add(td))
	})
	addFileReport(reading, name, &report, empty)
}

func (s *selection) openFile(ctx context.Context, name string) (in io.Reader, done func(), err error) {
	if name == "-" {
		in, done = interruptible(ctx, s.stdin)
		return in, done, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	return contextReader{ctx, f}, func() { f.Close() }, nil
}

// contextReader ends with the context.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// maxFileProblems is how many problems of all files are kept; the others are counted.
const maxFileProblems = 100

// addFileReport adds the result of reading a file to the reading.
func addFileReport(reading *analyzer.Reading, name string, report *otlp.FileReport, empty bool) {
	what := "file " + name
	kept := report.Problems[:min(len(report.Problems), max(0, maxFileProblems-len(reading.Problems)))]
	for _, problem := range kept {
		reading.Problems = append(reading.Problems, analyzer.Problem{What: what, Why: problem.Error()})
	}
	reading.MoreProblems += report.Unread - len(kept)
	if report.Ended != nil {
		reading.Problems = append(reading.Problems, analyzer.Problem{What: what, Why: report.Ended.Error()})
	}
	reading.Objects += report.Objects
	reading.OtherSignals += report.OtherSignals
	reading.Unread += report.Unread
	if empty && report.Unread == 0 && report.Ended == nil {
		reading.Warnings = append(reading.Warnings, fmt.Sprintf("no trace in %s", name))
	}
	if len(report.Ignored) > 0 {
		const most = 5
		keys := slices.Sorted(maps.Keys(report.Ignored))
		more := ""
		if len(keys) > most {
			keys, more = keys[:most], fmt.Sprintf(" and %d more", len(keys)-most)
		}
		reading.Warnings = append(reading.Warnings, fmt.Sprintf("%s has keys that OTLP does not have, which were ignored: %s%s", name, strings.Join(keys, ", "), more))
	}
}
