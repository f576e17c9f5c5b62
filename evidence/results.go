package evidence

import (
	"fmt"
	"slices"
	"time"
)

// ResultsSchema is the version of the results of entries, as their field schema holds it.
const ResultsSchema = "betrace.dev/results/v1"

// Results are the details of an entry. They are stored as a blob that the entry names by its digest.
type Results struct {
	// Schema is [ResultsSchema]. [Results.Encode] sets it if it is empty.
	Schema string   `json:"schema"`
	Sweeps []string `json:"sweeps"`
	// Scheduled is the time for which the tick was scheduled.
	Scheduled time.Time `json:"scheduled,omitzero"`
	// Missed counts the ticks since the one before that did not take place.
	Missed  int           `json:"missed"`
	Listing ListingResult `json:"listing"`
	Blocks  []BlockResult `json:"blocks"`
	// Windows are the ranges of trace start that were read by Tempo's API.
	Windows []WindowResult `json:"windows,omitempty"`
	Traces  TraceCounts    `json:"traces"`
	Rules   []RuleResult   `json:"rules"`
	// Violations and Corrections are in the order of the entry's Merkle trees.
	Violations  []LineRef      `json:"violations"`
	Corrections []LineRef      `json:"corrections"`
	Packs       []PackRef      `json:"packs"`
	Coverage    []RuleCoverage `json:"coverage"`
	// Canaries are those that the tick found, or should have found before.
	Canaries []CanaryResult `json:"canaries,omitempty"`
	// Capped are the lists of traces with violations that are not kept in full.
	Capped []CappedList `json:"capped,omitempty"`
}

// WindowResult is a range of trace start that was read by Tempo's API. From is inclusive, To is not.
type WindowResult struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Recheck means that the range had been judged before. Recent means that it will be judged again from the blocks.
	Recheck bool `json:"recheck,omitempty"`
	Recent  bool `json:"recent,omitempty"`
}

// The outcomes of a canary.
const (
	CanaryFound  = "found"
	CanaryMissed = "missed"
	// CanaryLate means that it was found after it had been missed.
	CanaryLate = "late"
)

// CanaryResult is the outcome of a trace that was written to be found again.
type CanaryResult struct {
	ID string `json:"id"`
	// Kind is canary or seeded_violation.
	Kind    string    `json:"kind"`
	Sent    time.Time `json:"sent"`
	Outcome string    `json:"outcome"`
}

// ListingResult is the listing of the blocks.
type ListingResult struct {
	Began time.Time `json:"began,omitzero"`
	Ended time.Time `json:"ended,omitzero"`
	// Stable reports that the list of blocks did not change during the listing.
	Stable bool `json:"stable"`
}

// The outcomes of a block.
const (
	// OutcomeJudged means that the block was read, and its traces were judged.
	OutcomeJudged = "judged"
	// OutcomeImplied means that compaction wrote the block from judged blocks.
	OutcomeImplied = "implied"
	// OutcomeAside means that the block could not be read, and was set aside.
	OutcomeAside = "aside"
	// OutcomeExpired means that the block was deleted before it was judged.
	OutcomeExpired = "expired"
	// OutcomeBefore means that the block has only data from before the beginning of coverage.
	OutcomeBefore = "before"
	// OutcomeSkipped means that the block was not read, because ticks were missed and the sweep does not catch up.
	OutcomeSkipped = "skipped"
)

// BlockResult is the outcome of one block.
type BlockResult struct {
	ID      string `json:"id"`
	Outcome string `json:"outcome"`
	Reason  string `json:"reason,omitempty"`
	// Earliest and Latest bound the times of its spans. They are zero if they are unknown.
	Earliest time.Time `json:"earliest,omitzero"`
	Latest   time.Time `json:"latest,omitzero"`
	Traces   int       `json:"traces"`
	Bytes    int64     `json:"bytes"`
}

// TraceCounts counts the traces and spans of a tick.
type TraceCounts struct {
	// Seen counts the traces that were read, Own those of them that BeTrace wrote, and Judged the others.
	Seen   int `json:"seen"`
	Own    int `json:"own"`
	Judged int `json:"judged"`
	// Spans counts the spans of the judged traces.
	Spans int `json:"spans"`
}

// RuleResult counts the verdicts of one rule.
type RuleResult struct {
	Pack          string `json:"pack"`
	PackVersion   string `json:"pack_version"`
	Rule          string `json:"rule"`
	Digest        string `json:"digest"`
	NotApplicable int    `json:"not_applicable"`
	Pass          int    `json:"pass"`
	Violation     int    `json:"violation"`
	Error         int    `json:"error"`
	FirstError    string `json:"first_error,omitempty"`
}

// LineRef refers to the record of a violation or a correction.
type LineRef struct {
	ID string `json:"id"`
	// SHA256 is the digest of the line, in hexadecimal.
	SHA256 string `json:"sha256"`
}

// NewLineRef returns the reference to the line of a record.
func NewLineRef(id string, line []byte) LineRef { return LineRef{ID: id, SHA256: digestOf(line)} }

// PackRef identifies a version of a rule pack.
type PackRef struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Digest  string `json:"digest"`
}

// RuleCoverage is the coverage of one rule after the entry.
type RuleCoverage struct {
	Pack   string    `json:"pack"`
	Rule   string    `json:"rule"`
	Digest string    `json:"digest"`
	From   time.Time `json:"from,omitzero"`
	To     time.Time `json:"to,omitzero"`
	// Holes counts the open holes in the range.
	Holes int `json:"holes"`
}

// Encode returns the results as canonical JSON (RFC 8785).
func (r *Results) Encode() ([]byte, error) {
	c := *r
	c.Schema = ResultsSchema
	c.Scheduled, c.Listing.Began, c.Listing.Ended = c.Scheduled.UTC(), c.Listing.Began.UTC(), c.Listing.Ended.UTC()
	c.Sweeps, c.Violations, c.Corrections, c.Packs = present(c.Sweeps), present(c.Violations), present(c.Corrections), present(c.Packs)
	c.Blocks = present(slices.Clone(c.Blocks))
	for i := range c.Blocks {
		b := &c.Blocks[i]
		b.Earliest, b.Latest, b.Reason = b.Earliest.UTC(), b.Latest.UTC(), cut(b.Reason)
	}
	c.Rules = present(slices.Clone(c.Rules))
	for i := range c.Rules {
		c.Rules[i].FirstError = cut(c.Rules[i].FirstError)
	}
	c.Coverage = present(slices.Clone(c.Coverage))
	for i := range c.Coverage {
		c.Coverage[i].From, c.Coverage[i].To = c.Coverage[i].From.UTC(), c.Coverage[i].To.UTC()
	}
	content, err := canonical(&c)
	if err != nil {
		return nil, fmt.Errorf("results: %w", err)
	}
	return content, nil
}

// ParseResults parses results that [Results.Encode] returned.
func ParseResults(content []byte) (*Results, error) {
	var r Results
	if err := strictJSON(content, &r); err != nil {
		return nil, fmt.Errorf("results: %w", err)
	}
	if r.Schema != ResultsSchema {
		return nil, fmt.Errorf("results: their schema is %q; only %s can be read", r.Schema, ResultsSchema)
	}
	return &r, nil
}

// present returns an empty list instead of nil, so that JSON has [] instead of null.
func present[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
