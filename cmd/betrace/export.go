package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/otlp"
)

func (p *program) exportCommand() *cobra.Command {
	var f selectionFlags
	var format string
	cmd := &cobra.Command{
		Use:   "export (--since 1h | --from T --to T | --trace ID | --traces FILE…) [--query TRACEQL] >FILE",
		Short: "Write the traces that match a query, whole, as OTLP",
		Long: `Write all traces that match a query, each whole and once, as OTLP to standard output: JSON lines (one trace a
line), or protobuf messages that each follow their length in four bytes, as the OpenTelemetry Collector's file
exporter writes them. scan --traces and count --traces read both.

Exit code: 0 complete, 2 incomplete; standard error lists the parts that were not read or written.`,
		Args: noArguments("use --traces for files; repeat the flag, or separate names by commas"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.config.load(cmd.Flags()); err != nil {
				return err
			}
			return p.export(cmd, f, format)
		},
	}
	p.config.addFlags(cmd.Flags())
	f.add(cmd, "export")
	cmd.Flags().StringVarP(&format, "output", "o", "jsonl", "`format`: jsonl or proto")
	return cmd
}

func (p *program) export(cmd *cobra.Command, f selectionFlags, format string) (err error) {
	write := map[string]func(io.Writer, ptrace.Traces) error{"jsonl": writeJSONLine, "proto": writeMessage}[format]
	if write == nil {
		return fmt.Errorf("--output %q: want jsonl or proto", format)
	}
	s, err := p.selectTraces(cmd.Context(), cmd, f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	traces, spans := 0, 0
	reading, err := s.each(cmd.Context(), columnar.Needs{All: true}, func(b *columnar.Batch, i int) error {
		t := b.Trace(i)
		if err := write(p.stdout, otlp.FromTrace(t)); err != nil {
			return fmt.Errorf("trace %s: %w", t.ID, err)
		}
		traces++
		spans += len(t.Spans)
		return nil
	})
	if err == nil || !nothingRead(&reading, traces) {
		fmt.Fprintf(p.stderr, "%s (%s) written, by %s\n", counted(traces, "trace"), counted(spans, "span"), reading.Basis)
	}
	if reading.SecondSearch != nil {
		fmt.Fprintln(p.stderr, secondSearchLine(reading.SecondSearch))
	}
	return p.endOfReading(reading, err)
}

func writeJSONLine(w io.Writer, td ptrace.Traces) error {
	line, err := (&ptrace.JSONMarshaler{}).MarshalTraces(td)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

func writeMessage(w io.Writer, td ptrace.Traces) error {
	b, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(td)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}
