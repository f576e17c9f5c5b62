package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/betracehq/betrace/analyzer"
	"github.com/betracehq/betrace/evidence/sink"
	"github.com/betracehq/betrace/trace"
)

// summary is the end of a scan's output. Its JSON is part of the command line's contract.
type summary struct {
	Result       trace.Completeness  `json:"result"` // complete, provisional, incomplete
	Basis        string              `json:"basis"`  // search, trace-id, files
	From         string              `json:"from,omitempty"`
	To           string              `json:"to,omitempty"`
	Problems     []trace.Problem     `json:"problems"`
	MoreProblems int                 `json:"more_problems,omitempty"`
	SecondSearch *trace.SecondSearch `json:"second_search,omitempty"`
	Traces       traceSummary        `json:"traces"`
	Files        *filesSummary       `json:"files,omitempty"` // of a reading of files
	Flags        map[string]int      `json:"flags"`
	Rules        []ruleSummary       `json:"rules"`
	Sinks        []sinkSummary       `json:"sinks"`
	Seconds      float64             `json:"seconds"`
	Warnings     []string            `json:"warnings"`
}

type traceSummary struct {
	analyzer.TraceCounts
	OutsideRange int `json:"outside_the_range"`
	Skipped      int `json:"skipped"`
}

// filesSummary counts the objects or messages of files.
type filesSummary struct {
	Objects      int `json:"objects"`
	OtherSignals int `json:"other_signals"`
	Unread       int `json:"unread"`
}

func filesOf(r *trace.Reading) *filesSummary {
	if r.Basis != "files" {
		return nil
	}
	return &filesSummary{Objects: r.Objects, OtherSignals: r.OtherSignals, Unread: r.Unread}
}

// remarkable reports whether some objects were skipped or not read.
func (s *filesSummary) remarkable() bool { return s != nil && s.OtherSignals+s.Unread > 0 }

func (s *filesSummary) String() string {
	return fmt.Sprintf("%s read, %d of other signals skipped, %d not read", counted(s.Objects, "object"), s.OtherSignals, s.Unread)
}

type ruleSummary struct {
	Rule          string `json:"rule"`
	NotApplicable int    `json:"not_applicable"`
	Pass          int    `json:"pass"`
	Violation     int    `json:"violation"`
	Error         int    `json:"error"`
}

type sinkSummary struct {
	Sink         string `json:"sink"`
	AlreadyThere int    `json:"already_there"`
	Written      int    `json:"written"`
	Confirmed    int    `json:"confirmed"`
	Missing      int    `json:"missing"`
	Error        string `json:"error,omitempty"`
}

func (j *scanJob) summarize(r *analyzer.Result, took time.Duration) *summary {
	s := &summary{
		Result: r.Completeness(), Basis: r.Basis, Problems: []trace.Problem{}, MoreProblems: r.MoreProblems,
		SecondSearch: r.SecondSearch, Traces: traceSummary{r.Traces, r.OutsideRange, r.Skipped}, Files: filesOf(&r.Reading), Flags: r.Flags,
		Rules: []ruleSummary{}, Sinks: []sinkSummary{}, Seconds: took.Seconds(), Warnings: []string{},
	}
	s.Problems = append(s.Problems, r.Problems...)
	if !j.request.From.IsZero() {
		s.From, s.To = j.request.From.UTC().Format(time.RFC3339), j.request.To.UTC().Format(time.RFC3339)
	}
	for _, c := range r.Rules {
		s.Rules = append(s.Rules, ruleSummary{Rule: ruleName(c.Rule), NotApplicable: c.NotApplicable, Pass: c.Pass, Violation: c.Violation, Error: c.Error})
	}
	for _, d := range j.deliveries {
		s.Sinks = append(s.Sinks, sinkOf(d))
	}
	j.warn(s, r)
	return s
}

func sinkOf(d sink.Delivery) sinkSummary {
	s := sinkSummary{Sink: d.Sink, AlreadyThere: d.AlreadyThere, Written: d.Written, Confirmed: d.Confirmed, Missing: len(d.Missing)}
	if d.Err != nil {
		s.Error = d.Err.Error()
	}
	return s
}

// warn adds warnings of likely mistakes, with the things to check.
func (j *scanJob) warn(s *summary, r *analyzer.Result) {
	add := func(format string, args ...any) { s.Warnings = append(s.Warnings, fmt.Sprintf(format, args...)) }
	for _, warning := range r.Warnings {
		add("%s", warning)
	}
	if r.Traces.Seen == 0 && len(s.Problems) == 0 {
		if s.Basis != "files" { // their warnings are above
			add("found no trace between %s and %s to which the rules could apply: check the range, this machine's clock (%s), the tenant (%q), and the prefilters of the rules (betrace rules explain)",
				s.From, s.To, time.Now().UTC().Format(time.RFC3339), j.config.Tenant)
		}
	}
	if seen := r.Traces.Seen - r.Traces.Own; seen > 0 {
		var idle []string
		for _, c := range r.Rules {
			if c.Applied() == 0 {
				idle = append(idle, ruleName(c.Rule))
			}
		}
		if len(idle) > 0 {
			more := ""
			if len(idle) > 5 {
				idle, more = idle[:5], fmt.Sprintf(" and %d more", len(idle)-5)
			}
			add("applied to none of %d traces: %s%s: check that the traces have the names that the rules use", seen, strings.Join(idle, ", "), more)
		}
	}
	if len(j.sinks) == 1 {
		add("violations are written to Tempo only: set --loki to write records")
	}
	if j.dryRun {
		add("nothing was written: --dry-run")
	}
}

// exitCode returns 2 if anything failed, else 1 if there are violations.
func (s *summary) exitCode() int {
	violations := 0
	failed := s.Result == trace.Incomplete
	for _, r := range s.Rules {
		violations += r.Violation
	}
	for _, sink := range s.Sinks {
		failed = failed || sink.Missing > 0 || sink.Error != ""
	}
	switch {
	case failed:
		return exitFailed
	case violations > 0:
		return exitViolations
	}
	return exitOK
}

var errOutput = errors.New("want table, json or jsonl")
