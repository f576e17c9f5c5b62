package state

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/trace"
)

// results are the lines that the results of an entry name. It is nil if the entry has none, or if they are damaged.
type results struct{ *evidence.Results }

func (r *results) violations() []evidence.LineRef {
	if r == nil {
		return nil
	}
	return r.Violations
}

func (r *results) corrections() []evidence.LineRef {
	if r == nil {
		return nil
	}
	return r.Corrections
}

// checkResults checks the results of an entry against the entry.
func (l *log) checkResults(ctx context.Context, r *Reader, e *Entry, s *evidence.Statement) (*results, error) {
	if s.Results == nil {
		if s.Violations != nil || s.Corrections != nil {
			l.add(l.tenant, e.Number, "it has violations or corrections, and no results")
		}
		return nil, nil
	}
	digest := s.Results.SHA256
	var size int64
	var stored []byte
	err := r.q.QueryRowContext(ctx, `SELECT size, content FROM blobs WHERE digest = $1`, digest).Scan(&size, &stored)
	if errors.Is(err, sql.ErrNoRows) {
		l.add(l.tenant, e.Number, "its results are missing: there is no blob %s", short(digest))
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", digest, err)
	}
	content, err := blobDecoder.DecodeAll(stored, nil)
	var parsed *evidence.Results
	if err == nil {
		parsed, err = evidence.ParseResults(content)
	}
	switch have := evidence.NewBlobRef(content); {
	case *have != *s.Results:
		l.add(l.tenant, e.Number, "its results were changed: the blob %s has %d bytes with the digest %s, and %d bytes were signed", short(digest), have.Bytes, short(have.SHA256), s.Results.Bytes)
		return nil, nil
	case size != have.Bytes:
		l.add(l.tenant, e.Number, "the blob of its results has %d bytes, and its column size has %d", have.Bytes, size)
	case err != nil:
		l.add(l.tenant, e.Number, "%v", err)
		return nil, nil
	}
	for _, c := range []struct {
		name string
		set  *evidence.SetRef
		refs []evidence.LineRef
	}{{"violations", s.Violations, parsed.Violations}, {"corrections", s.Corrections, parsed.Corrections}} {
		if n := countOf(c.set); n != len(c.refs) {
			l.add(l.tenant, e.Number, "it has %d %s, and its results name %d", n, c.name, len(c.refs))
			return nil, nil
		}
	}
	return &results{parsed}, nil
}

func countOf(s *evidence.SetRef) int {
	if s == nil {
		return 0
	}
	return s.Count
}

// set is the violations or the corrections of an entry.
type set struct {
	signed *evidence.SetRef
	// refs are nil if the results are damaged.
	refs []evidence.LineRef
	// rows is the number of rows with the number of the entry.
	rows int64
}

func (s set) isEmpty() bool { return s.signed == nil && s.rows == 0 }

// countByEntry returns the number of rows of each entry in a range that has rows.
func (r *Reader) countByEntry(ctx context.Context, table, tenant string, first, last int64) (map[int64]int64, error) {
	counts := map[int64]int64{}
	return counts, queryEach(ctx, r.q, func(row scanner) error {
		var entry, n int64
		err := row.Scan(&entry, &n)
		counts[entry] = n
		return err
	}, `SELECT entry, count(*) FROM `+table+` WHERE tenant = $1 AND entry >= $2 AND entry <= $3 GROUP BY entry`, tenant, first, last)
}

// lineCheck compares the rows of a set with the signed lines, in the order of their ordinals.
type lineCheck struct {
	*log
	set
	entry  int64
	noun   string
	next   int
	hash   evidence.SetHash
	differ bool
}

// row checks the next row. It reports whether its line is the signed one.
func (c *lineCheck) row(id string, ordinal int, line []byte) bool {
	c.hash.Add(line)
	if c.refs == nil {
		return true // the root decides
	}
	c.missing(ordinal)
	c.next = ordinal + 1
	switch {
	case ordinal >= len(c.refs):
		c.fault("%s %s was added: %d were signed", c.noun, id, len(c.refs))
	case c.refs[ordinal].ID != id:
		c.fault("%s %d is %s, and %s was signed", c.noun, ordinal, id, c.refs[ordinal].ID)
	case evidence.NewLineRef(id, line) != c.refs[ordinal]:
		c.fault("the line of %s %s was changed", c.noun, id)
	default:
		return true
	}
	return false
}

// missing reports the rows before an ordinal that have not come.
func (c *lineCheck) missing(before int) {
	for ; c.next < min(before, len(c.refs)); c.next++ {
		c.fault("%s %s is missing", c.noun, c.refs[c.next].ID)
	}
}

func (c *lineCheck) fault(format string, args ...any) {
	c.differ = true
	c.add(c.tenant, c.entry, format, args...)
}

// end compares the whole with the signed count and root.
func (c *lineCheck) end() {
	c.missing(len(c.refs))
	have := c.hash.Ref()
	switch signed, rows := countOf(c.signed), countOf(have); {
	case c.differ:
	case signed != rows:
		c.fault("it has %d %ss, and %d were signed", rows, c.noun, signed)
	case signed > 0 && *have != *c.signed:
		c.fault("its %ss have the root %s, and %s was signed", c.noun, short(have.Root), short(c.signed.Root))
	}
}

// checkViolations checks the violations that an entry found first.
func (l *log) checkViolations(ctx context.Context, r *Reader, entry int64, s set) error {
	if s.isEmpty() {
		return nil
	}
	c := &lineCheck{log: l, set: s, entry: entry, noun: "violation"}
	var corrected []Violation
	err := queryEach(ctx, r.q, func(rows scanner) error {
		var have violationColumnsOfLine
		var v Violation
		if err := rows.Scan(&v.ID, &v.Ordinal, &have.pack, &have.rule, &have.digest, &have.severity, &have.traceID, &have.start, &have.services,
			&v.Spans, &v.Status, &v.Sequence, &v.Line); err != nil {
			return err
		}
		if c.row(v.ID, v.Ordinal, v.Line) {
			l.checkViolation(entry, &v, have)
		}
		switch {
		case v.Sequence == 0 && v.Status != StatusOpen:
			l.add(l.tenant, entry, "violation %s is %s, and it has no correction", v.ID, v.Status)
		case v.Sequence != 0:
			v.Line = nil
			corrected = append(corrected, v)
		}
		return nil
	}, `SELECT id, ordinal, pack, rule, rule_digest, severity, trace_id, trace_start, services, spans, status, sequence, line
		FROM violations WHERE tenant = $1 AND entry = $2 ORDER BY ordinal`, l.tenant, entry)
	if err != nil {
		return err
	}
	c.end()
	for i := range corrected {
		if err := l.checkStatus(ctx, r, entry, &corrected[i]); err != nil {
			return err
		}
	}
	return nil
}

// violationColumnsOfLine are the columns of a violation that repeat parts of its line.
type violationColumnsOfLine struct {
	pack, rule, digest, severity, traceID string
	start                                 int64
	services                              string
}

// maxWholeLine is the length of a line up to which it has all services of a violation.
const maxWholeLine = 48 << 10

// checkViolation checks a violation against its line, which is the signed one.
func (l *log) checkViolation(entry int64, v *Violation, have violationColumnsOfLine) {
	found, err := evidence.ParseRecord(v.Line)
	if err != nil {
		l.add(l.tenant, entry, "violation %s: %v", v.ID, err)
		return
	}
	var services []string
	if err := json.Unmarshal([]byte(have.services), &services); err != nil {
		l.add(l.tenant, entry, "violation %s: its column services: %v", v.ID, err)
		return
	}
	sameServices := slices.Equal(services, found.Services)
	if len(v.Line) > maxWholeLine {
		sameServices = len(services) >= len(found.Services) && slices.Equal(services[:len(found.Services)], found.Services)
	}
	have.services = ""
	want := violationColumnsOfLine{found.Pack, found.RuleID, found.RuleDigest, found.Severity, found.TraceID.String(), startNanos(found.TraceStart), ""}
	switch {
	case have != want || !sameServices:
		l.add(l.tenant, entry, "violation %s: its columns differ from its line", v.ID)
	case found.ID != v.ID || found.Tenant != l.tenant:
		l.add(l.tenant, entry, "violation %s: its line is that of violation %s of tenant %q", v.ID, found.ID, found.Tenant)
	case evidence.ViolationID(found.Tenant, found.Pack, found.RuleID, found.RuleDigest, found.TraceID) != v.ID:
		l.add(l.tenant, entry, "violation %s: its ID does not follow from its rule and trace", v.ID)
	}
}

// checkStatus checks that the status of a violation follows from its last correction, which is checked with its own entry.
func (l *log) checkStatus(ctx context.Context, r *Reader, entry int64, v *Violation) error {
	var kind string
	var spans int
	err := r.q.QueryRowContext(ctx, `SELECT kind, spans_after FROM corrections WHERE violation = $1 AND sequence = $2`, v.ID, v.Sequence).Scan(&kind, &spans)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		l.add(l.tenant, entry, "violation %s is %s since its correction %d, which does not exist", v.ID, v.Status, v.Sequence)
	case err != nil:
		return err
	case v.Status != statusAfter(kind):
		l.add(l.tenant, entry, "violation %s is %s, and its last correction is %q", v.ID, v.Status, kind)
	case v.Spans < spans:
		l.add(l.tenant, entry, "violation %s was judged on %d spans, and its last correction on %d", v.ID, v.Spans, spans)
	}
	return nil
}

// statusAfter returns the status of a violation after a correction.
func statusAfter(kind string) string {
	if kind == string(evidence.Withdrawn) {
		return StatusWithdrawn
	}
	return StatusOpen
}

// checkCorrections checks the corrections of an entry.
func (l *log) checkCorrections(ctx context.Context, r *Reader, entry int64, s set) error {
	if s.isEmpty() {
		return nil
	}
	c := &lineCheck{log: l, set: s, entry: entry, noun: "correction"}
	err := queryEach(ctx, r.q, func(rows scanner) error {
		k := Correction{Correction: evidence.Correction{Tenant: l.tenant}}
		var traceID, before string
		var v correctedViolation
		if err := rows.Scan(&k.ID, &k.Ordinal, &k.ViolationID, &k.Sequence, &k.Kind, &k.Reason, &k.Outcome, &k.SpansBefore, &k.SpansAfter,
			&k.Pack, &k.RuleID, &k.RuleDigest, &k.Severity, &traceID, &k.Line, &v.tenant, &v.ruleDigest, &v.traceID, &v.sequence, &before); err != nil {
			return err
		}
		if !c.row(k.ID, k.Ordinal, k.Line) {
			return nil
		}
		var err error
		if k.TraceID, err = trace.ParseID(traceID); err == nil {
			err = checkCorrection(&k, v, before)
		}
		if err != nil {
			l.add(l.tenant, entry, "correction %s: %v", k.ID, err)
		}
		return nil
	}, `SELECT c.id, c.ordinal, c.violation, c.sequence, c.kind, c.reason, c.outcome, c.spans_before, c.spans_after,
			c.pack, c.rule, c.rule_digest, c.severity, c.trace_id, c.line,
			coalesce(v.tenant, ''), coalesce(v.rule_digest, ''), coalesce(v.trace_id, ''), coalesce(v.sequence, 0), coalesce(before.kind, '')
		FROM corrections c LEFT JOIN violations v ON v.id = c.violation
			LEFT JOIN corrections before ON before.violation = c.violation AND before.sequence = c.sequence - 1
		WHERE c.tenant = $1 AND c.entry = $2 ORDER BY c.ordinal`, l.tenant, entry)
	if err != nil {
		return err
	}
	c.end()
	return nil
}

// correctedViolation is a violation as its correction must know it. The tenant is always empty if it does not exist.
type correctedViolation struct {
	tenant, ruleDigest, traceID string
	sequence                    int
}

// checkCorrection checks a correction against its line, which is the signed one, its violation, and the kind of the
// correction before.
func checkCorrection(c *Correction, v correctedViolation, before string) error {
	signed, err := evidence.ParseCorrection(c.Line)
	if err != nil {
		return err
	}
	// The line has a shortened reason, so the columns are compared in the form of a line.
	var have evidence.Correction
	line, err := c.Record()
	if err == nil {
		have, err = evidence.ParseCorrection(line)
	}
	if err != nil {
		return err
	}
	switch {
	case have != signed:
		return errors.New("its columns differ from its line")
	case evidence.CorrectionID(c.Tenant, c.ViolationID, c.Sequence) != c.ID:
		return errors.New("its ID does not follow from its violation and number")
	case v.sequence < c.Sequence:
		return fmt.Errorf("violation %s does not exist or has only %d corrections", c.ViolationID, v.sequence)
	case v != (correctedViolation{c.Tenant, c.RuleDigest, c.TraceID.String(), v.sequence}):
		return fmt.Errorf("violation %s has another tenant, rule or trace", c.ViolationID)
	case (c.Sequence == 1) != (before == "") || statusAfter(before) == statusAfter(string(c.Kind)):
		return fmt.Errorf("it is number %d of kind %q of its violation, and the one before is %q", c.Sequence, c.Kind, before)
	}
	return nil
}
