package trace

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"
)

// Problem is a part of a range or of a result that is missing, and the cause.
type Problem struct {
	// What names the part: "trace 4bf9…", "search 12:00:00/12:00:01".
	What string
	Err  error
}

// Error returns the part and the cause.
func (p Problem) Error() string { return p.What + ": " + p.Err.Error() }

// Unwrap returns the cause.
func (p Problem) Unwrap() error { return p.Err }

// problemJSON is the form of a problem in output.
type problemJSON struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// MarshalJSON writes the part as "what" and the text of the cause as "why". It escapes no HTML, because the
// encoder that calls it does so if it is configured to.
func (p Problem) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	err := e.Encode(problemJSON{p.What, p.Err.Error()})
	return out.Bytes(), err
}

// UnmarshalJSON reads the output of [Problem.MarshalJSON]. Only the text of the cause is restored.
func (p *Problem) UnmarshalJSON(data []byte) error {
	var read problemJSON
	if err := json.Unmarshal(data, &read); err != nil {
		return err
	}
	*p = Problem{read.What, errors.New(read.Why)}
	return nil
}

// Completeness states which data the counts of a result cover.
type Completeness string

const (
	// Complete means that everything requested was read whole.
	Complete Completeness = "complete"
	// Provisional is as Complete, but some of the data is so young that more of it may still arrive.
	Provisional Completeness = "provisional"
	// Incomplete means that a part is missing; the problems name it.
	Incomplete Completeness = "incomplete"
)

// Reading reports the data that a source read and the parts that it could not read.
type Reading struct {
	// Basis is the way in which traces were found: "search", "blocks", "blocks and search", "trace-id"
	// or "files".
	Basis string
	// Problems are the parts that are missing. MoreProblems counts those beyond a source's limit.
	Problems     []Problem
	MoreProblems int
	// OutsideRange counts traces that were read and start outside the range.
	OutsideRange int
	// Skipped counts traces that are known to exist but were not delivered.
	Skipped int
	// SecondSearch is nil if no part of the range was searched twice.
	SecondSearch *SecondSearch
	// Young is set if the range includes times for which data may still arrive.
	Young bool
	// Objects counts the JSON objects or protobuf messages with traces that were read from files, and
	// OtherSignals the skipped ones with logs, metrics or profiles. Unread counts those that could not be
	// read; each of them is a problem, too.
	Objects, OtherSignals, Unread int
	// Warnings are remarks that do not make the result incomplete.
	Warnings []string
}

// Completeness returns whether everything requested was read, and whether more may still arrive.
func (r *Reading) Completeness() Completeness {
	switch {
	case len(r.Problems) > 0 || r.Skipped > 0:
		return Incomplete
	case r.Young:
		return Provisional
	}
	return Complete
}

// AddProblem adds a missing part and the cause.
func (r *Reading) AddProblem(what string, err error) {
	r.Problems = append(r.Problems, Problem{what, err})
}

// SecondSearch reports the second search of the part of a range that may still be moving to the storage.
//
// After an ingester of Tempo has completed a block and before the block is in the storage, search may find
// none of the block's traces for some seconds, although all jobs are completed and there is no error (seen
// with Tempo 2.8). A second search some seconds later finds most of them. It proves nothing, because the gap
// may be longer than the pause: a range that has not settled is provisional even if both searches find the
// same traces.
type SecondSearch struct {
	// From is the start of the part of the range that was searched twice.
	From time.Time `json:"from"`
	// Added counts the traces in the range that only the second search found: the first search missed
	// them, or they arrived in between.
	Added int `json:"added"`
}
