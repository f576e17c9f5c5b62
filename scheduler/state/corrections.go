package state

import (
	"context"
	"errors"
	"fmt"

	"github.com/betracehq/betrace/trace"
)

const correctionColumns = "id, tenant, entry, ordinal, violation, sequence, kind, reason, outcome, spans_before, spans_after, pack, rule, rule_digest, severity, trace_id, " +
	circumstanceColumns + ", line"

var insertCorrection = insertSQL("corrections", correctionColumns)

func scanCorrection(row scanner, c *Correction) error {
	var traceID string
	dest := []any{&c.ID, &c.Tenant, &c.EntryNumber, &c.Ordinal, &c.ViolationID, &c.Sequence, &c.Kind, &c.Reason, &c.Outcome, &c.SpansBefore, &c.SpansAfter,
		&c.Pack, &c.RuleID, &c.RuleDigest, &c.Severity, &traceID}
	dest = append(append(dest, circumstanceDest(&c.Circumstances)...), &c.Line)
	err := row.Scan(dest...)
	if err == nil {
		c.TraceID, err = trace.ParseID(traceID)
	}
	return err
}

// PutCorrections adds corrections of violations that exist. It is an error if one of the corrections exists.
func (tx *Tx) PutCorrections(ctx context.Context, corrections []Correction) error {
	var last string
	err := execAll(ctx, tx.tx, insertCorrection, corrections, func(c *Correction) ([]any, error) {
		last = c.ID
		if len(c.Line) == 0 {
			return nil, errors.New("it has no line")
		}
		values := []any{c.ID, c.Tenant, c.EntryNumber, c.Ordinal, c.ViolationID, c.Sequence, string(c.Kind), c.Reason, c.Outcome, c.SpansBefore, c.SpansAfter,
			c.Pack, c.RuleID, c.RuleDigest, c.Severity, c.TraceID.String()}
		return append(append(values, circumstanceValues(&c.Circumstances)...), c.Line), nil
	})
	if err != nil {
		return fmt.Errorf("state: put correction %s: %w", last, err)
	}
	return nil
}

// EntryCorrections returns the corrections of an entry, by their ordinals.
func (r *Reader) EntryCorrections(ctx context.Context, tenant string, entry int64) ([]Correction, error) {
	corrections, err := queryAll(ctx, r.q, scanCorrection,
		`SELECT `+correctionColumns+` FROM corrections WHERE tenant = $1 AND entry = $2 ORDER BY ordinal`, tenant, entry)
	if err != nil {
		return nil, fmt.Errorf("state: corrections of entry %d of tenant %q: %w", entry, tenant, err)
	}
	return corrections, nil
}

// ViolationCorrections returns the corrections of a violation, the first one first.
func (r *Reader) ViolationCorrections(ctx context.Context, violation string) ([]Correction, error) {
	corrections, err := queryAll(ctx, r.q, scanCorrection,
		`SELECT `+correctionColumns+` FROM corrections WHERE violation = $1 ORDER BY sequence`, violation)
	if err != nil {
		return nil, fmt.Errorf("state: corrections of violation %s: %w", violation, err)
	}
	return corrections, nil
}
