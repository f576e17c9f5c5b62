package state

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/trace"
)

const (
	circumstanceColumns = "origin, sweep, job, window_start, window_end, provisional, engine, filed_at, muted"
	violationColumns    = "id, tenant, entry, ordinal, ledger, pack, rule, rule_digest, severity, trace_id, trace_start, services, " +
		circumstanceColumns + ", root_id, root_name, root_service, line, spans, status, sequence"
	// readColumns are those that are not in the line.
	readColumns = "id, entry, ordinal, ledger, " + circumstanceColumns + ", root_id, root_name, root_service, line, spans, status, sequence"
)

var insertViolation = insertSQL("violations", violationColumns)

func circumstanceValues(c *evidence.Circumstances) []any {
	return []any{string(c.Origin), c.Sweep, c.Job, nanos(c.WindowStart), nanos(c.WindowEnd), c.Provisional, c.Engine, nanos(c.FiledAt), c.Muted}
}

func circumstanceDest(c *evidence.Circumstances) []any {
	return []any{&c.Origin, &c.Sweep, &c.Job, at(&c.WindowStart), at(&c.WindowEnd), &c.Provisional, &c.Engine, at(&c.FiledAt), &c.Muted}
}

func violationValues(v *Violation) ([]any, error) {
	if len(v.Line) == 0 {
		return nil, errors.New("it has no line")
	}
	services, err := json.Marshal(v.Services)
	if err != nil {
		return nil, err
	}
	values := []any{v.ID, v.Tenant, v.EntryNumber, v.Ordinal, v.Ledger, v.Pack, v.RuleID, v.RuleDigest, v.Severity,
		v.TraceID.String(), startNanos(v.TraceStart), string(services)}
	values = append(values, circumstanceValues(&v.Circumstances)...)
	return append(values, v.Root.ID.String(), v.Root.Name, v.Root.Service, v.Line, v.Spans, v.Status, v.Sequence), nil
}

// startNanos returns the start of a trace as its column has it. Times after 2262 are in the line only.
func startNanos(t trace.Time) int64 { return int64(min(uint64(t), math.MaxInt64)) }

// scanViolation restores a violation from its line and the columns beside it.
func (r *Reader) scanViolation(row scanner, v *Violation) error {
	var id, rootID string
	var root evidence.SpanRef
	var c evidence.Circumstances
	dest := append([]any{&id, &v.EntryNumber, &v.Ordinal, &v.Ledger}, circumstanceDest(&c)...)
	dest = append(dest, &rootID, &root.Name, &root.Service, &v.Line, &v.Spans, &v.Status, &v.Sequence)
	err := row.Scan(dest...)
	if err == nil {
		v.Violation, err = evidence.ParseRecord(v.Line)
	}
	if err == nil {
		root.ID, err = trace.ParseSpanID(rootID)
	}
	if err != nil {
		return fmt.Errorf("violation %s: %w", id, err)
	}
	v.Root, v.Circumstances = root, c
	return nil
}

// PutViolations adds violations. It is an error if one of them exists.
func (tx *Tx) PutViolations(ctx context.Context, violations []Violation) error {
	var last string
	err := execAll(ctx, tx.tx, insertViolation, violations, func(v *Violation) ([]any, error) {
		last = v.ID
		return violationValues(v)
	})
	if err != nil {
		return fmt.Errorf("state: put violation %s: %w", last, err)
	}
	return nil
}

// UpdateViolations sets the spans, status and sequence of existing violations. Nothing else of them can change.
func (tx *Tx) UpdateViolations(ctx context.Context, violations []Violation) error {
	for i := range violations {
		v := &violations[i]
		result, err := tx.tx.ExecContext(ctx, `UPDATE violations SET spans = $1, status = $2, sequence = $3 WHERE id = $4`, v.Spans, v.Status, v.Sequence, v.ID)
		var n int64
		if err == nil {
			n, err = result.RowsAffected()
		}
		if err == nil && n != 1 {
			err = errors.New("it does not exist")
		}
		if err != nil {
			return fmt.Errorf("state: update violation %s: %w", v.ID, err)
		}
	}
	return nil
}

// traceChunk is the number of trace IDs in one query. A search for 100 took 0.3 ms of CPU in a state of a million
// violations, and one for 1 each took ten times as long.
const traceChunk = 100

var violationsOfTraces = `SELECT ` + readColumns + ` FROM violations WHERE tenant = $1 AND trace_id IN (` + placeholders(2, traceChunk) + `)`

// ViolationsOfTraces returns all violations of the given traces of a tenant, without capped ones.
func (r *Reader) ViolationsOfTraces(ctx context.Context, tenant string, ids []trace.ID) (all []Violation, err error) {
	err = r.eachOfTraces(ctx, violationsOfTraces, tenant, ids, func(row scanner) error {
		var v Violation
		err := r.scanViolation(row, &v)
		all = append(all, v)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("state: violations of traces of tenant %q: %w", tenant, err)
	}
	return all, nil
}

// eachOfTraces calls f with the rows of a query whose parameters are a tenant and traceChunk trace IDs.
func (r *Reader) eachOfTraces(ctx context.Context, query, tenant string, ids []trace.ID, f func(scanner) error) error {
	if len(ids) == 0 {
		return nil
	}
	// In the order of the index, so that each of its pages is read once.
	ids = slices.Clone(ids)
	slices.SortFunc(ids, func(a, b trace.ID) int { return bytes.Compare(a[:], b[:]) })
	ids = slices.Compact(ids)
	stmt, err := r.q.PrepareContext(ctx, query)
	if err != nil {
		return err
	}
	defer stmt.Close() //nolint:errcheck // it was only read
	args := make([]any, 1+traceChunk)
	args[0] = tenant
	for chunk := range slices.Chunk(ids, traceChunk) {
		for i := range traceChunk {
			// The last chunk repeats its last ID.
			args[1+i] = chunk[min(i, len(chunk)-1)].String()
		}
		rows, err := stmt.QueryContext(ctx, args...)
		if err != nil {
			return err
		}
		if err := eachRow(rows, f); err != nil {
			return err
		}
	}
	return nil
}

// EntryViolations returns the violations that an entry found first, by their ordinals.
func (r *Reader) EntryViolations(ctx context.Context, tenant string, entry int64) ([]Violation, error) {
	violations, err := queryAll(ctx, r.q, r.scanViolation,
		`SELECT `+readColumns+` FROM violations WHERE tenant = $1 AND entry = $2 ORDER BY ordinal`, tenant, entry)
	if err != nil {
		return nil, fmt.Errorf("state: violations of entry %d of tenant %q: %w", entry, tenant, err)
	}
	return violations, nil
}

// Violations returns the violations that match all fields of the filter, the latest trace start first.
func (r *Reader) Violations(ctx context.Context, f ViolationFilter) ([]Violation, error) {
	var start int64
	if f.After != "" {
		if err := r.q.QueryRowContext(ctx, `SELECT trace_start FROM violations WHERE id = $1`, f.After).Scan(&start); err != nil {
			return nil, fmt.Errorf("state: violation %s: %w", f.After, err)
		}
	}
	limit := f.Limit
	var all []Violation
	for {
		query, args, err := f.query(start)
		if err != nil {
			return nil, err
		}
		page, err := queryAll(ctx, r.q, r.scanViolation, query, args...)
		if err != nil {
			return nil, fmt.Errorf("state: violations: %w", err)
		}
		for i := range page {
			if f.Service == "" || slices.Contains(page[i].Services, f.Service) {
				all = append(all, page[i])
			}
		}
		if limit <= 0 {
			return all, nil
		}
		if len(all) >= limit || len(page) < f.Limit {
			return all[:min(len(all), limit)], nil
		}
		// Rows with another service were dropped, so more are read.
		last := &page[len(page)-1]
		f.After, start, f.Limit = last.ID, startNanos(last.TraceStart), max(limit, servicePage)
	}
}

// servicePage is the number of violations that are read at once when some of them have another service.
const servicePage = 100

// query returns the query of a filter. after is the start of the trace of the violation f.After.
func (f *ViolationFilter) query(after int64) (string, []any, error) {
	var where []string
	var args []any
	and := func(condition string, value any) {
		args = append(args, value)
		where = append(where, strings.ReplaceAll(condition, "?", "$"+strconv.Itoa(len(args))))
	}
	for _, equal := range []struct{ column, value string }{
		{"tenant", f.Tenant}, {"pack", f.Pack}, {"rule", f.Rule}, {"severity", f.Severity}, {"origin", f.Origin}, {"status", f.Status},
	} {
		if equal.value != "" {
			and(equal.column+" = ?", equal.value)
		}
	}
	if !f.From.IsZero() {
		and("trace_start >= ?", startNanos(trace.TimeOf(f.From)))
	}
	if !f.To.IsZero() {
		and("trace_start < ?", startNanos(trace.TimeOf(f.To)))
	}
	if f.Service != "" {
		quoted, err := json.Marshal(f.Service)
		if err != nil {
			return "", nil, fmt.Errorf("state: service %q: %w", f.Service, err)
		}
		// LIKE ignores the case in SQLite, so the rows are compared again.
		and("services LIKE ? ESCAPE '!'", "%"+likeEscapes.Replace(string(quoted))+"%")
	}
	if f.After != "" {
		args = append(args, after, f.After)
		where = append(where, fmt.Sprintf("(trace_start, id) < ($%d, $%d)", len(args)-1, len(args)))
	}
	query := `SELECT ` + readColumns + ` FROM violations`
	if f.TraceID != (trace.ID{}) {
		// The rows of the trace are few. Without this order of execution, the database may read all rows of a tenant
		// or rule instead, which another index returns in the order of the result.
		args = append(args, f.TraceID.String())
		query = fmt.Sprintf(`WITH of_trace AS MATERIALIZED (SELECT * FROM violations WHERE trace_id = $%d) SELECT %s FROM of_trace`, len(args), readColumns)
	}
	if len(where) > 0 {
		query += ` WHERE ` + strings.Join(where, ` AND `)
	}
	query += ` ORDER BY trace_start DESC, id DESC`
	if f.Limit > 0 {
		// PostgreSQL may prefer to sort all rows otherwise, and sends all of them.
		args = append(args, f.Limit)
		query += fmt.Sprintf(` LIMIT $%d`, len(args))
	}
	return query, args, nil
}

var likeEscapes = strings.NewReplacer("!", "!!", "%", "!%", "_", "!_")
