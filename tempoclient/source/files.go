package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/otlp"
)

// readFiles reads all files before it delivers, because the spans of a trace may be in any of them.
func (s *Source) readFiles(ctx context.Context, names []string, deliver func(*trace.Trace) error) (trace.Reading, error) {
	reading := trace.Reading{Basis: "files"}
	var spans otlp.Collector
	for _, name := range names {
		if info, err := os.Stat(name); name == "-" || err != nil || !info.IsDir() {
			s.readFile(ctx, name, &spans, &reading)
			continue
		}
		files := 0
		walkFolder(ctx, name, func(file string) { files++; s.readFile(ctx, file, &spans, &reading) }, reading.AddProblem)
		if files == 0 {
			reading.AddProblem("folder "+name, errors.New("it contains no file; hidden files and folders are ignored"))
		}
	}
	for _, t := range spans.Traces() {
		if err := context.Cause(ctx); err != nil {
			return reading, err
		}
		if err := deliver(t); err != nil {
			return reading, err
		}
	}
	return reading, nil
}

// walkFolder calls visit for the files in a folder and its subfolders, in lexical order, except hidden ones.
// Links to files are followed. Everything else that is not read is a problem.
func walkFolder(ctx context.Context, folder string, visit func(file string), problem func(what string, err error)) {
	// The folder may itself be a link, which filepath.WalkDir would not follow.
	err := fs.WalkDir(os.DirFS(folder), ".", func(path string, entry fs.DirEntry, err error) error {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		file := filepath.Join(folder, filepath.FromSlash(path))
		switch {
		case err != nil:
			problem("folder "+file, err)
			return nil
		case path != "." && strings.HasPrefix(entry.Name(), "."):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case entry.IsDir():
			return nil
		}
		info, err := os.Stat(file)
		switch {
		case err != nil:
			problem("file "+file, err)
		case info.IsDir():
			problem("folder "+file, errors.New("links to folders are not followed: give its name to read it"))
		case !info.Mode().IsRegular():
			problem("file "+file, fmt.Errorf("it is not a regular file (%s): give its name to read it", info.Mode().Type()))
		default:
			visit(file)
		}
		return nil
	})
	if err != nil {
		problem("folder "+folder, err)
	}
}

// readFile reads the traces of a file, or of standard input, and adds its result to the reading.
func (s *Source) readFile(ctx context.Context, name string, spans *otlp.Collector, reading *trace.Reading) {
	in, done, err := s.openFile(ctx, name)
	if err != nil {
		reading.AddProblem("file "+name, err)
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

// openFile opens a file. Its reads fail when the context ends.
func (s *Source) openFile(ctx context.Context, name string) (in io.Reader, done func(), err error) {
	if name == "-" {
		in, done = interruptible(ctx, s.opts.Stdin)
		return in, done, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	return readerFunc(func(b []byte) (int, error) {
		if err := context.Cause(ctx); err != nil {
			return 0, err
		}
		return f.Read(b)
	}), func() { f.Close() }, nil
}

// readerFunc is a function as an [io.Reader].
type readerFunc func([]byte) (int, error)

func (r readerFunc) Read(b []byte) (int, error) { return r(b) }

// interruptible returns a reader that ends with the context. A blocked read of standard input cannot be
// interrupted; it stays blocked until the program ends.
func interruptible(ctx context.Context, in io.Reader) (io.Reader, func()) {
	r, w := io.Pipe()
	go func() {
		_, err := io.Copy(w, in)
		w.CloseWithError(err)
	}()
	stop := context.AfterFunc(ctx, func() { w.CloseWithError(context.Cause(ctx)) })
	return r, func() {
		stop()
		r.Close()
	}
}

// maxFileProblems is the maximum number of problems of all files; the others are counted.
const maxFileProblems = 100

// addFileReport adds the result of reading a file to the reading.
func addFileReport(reading *trace.Reading, name string, report *otlp.FileReport, empty bool) {
	what := "file " + name
	kept := report.Problems[:min(len(report.Problems), max(0, maxFileProblems-len(reading.Problems)))]
	for _, problem := range kept {
		reading.AddProblem(what, problem)
	}
	reading.MoreProblems += report.Unread - len(kept)
	if report.Ended != nil {
		reading.AddProblem(what, report.Ended)
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
