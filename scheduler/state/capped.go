package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/betracehq/betrace/trace"
)

// CappedList has the violations of a rule that an entry found first, and that are not kept in full.
type CappedList struct {
	ID                           int64
	Tenant                       string
	Entry                        int64
	Ledger                       int64
	Pack, Rule, Digest, Severity string
}

// CappedViolation is a violation that is not kept in full. Its list has its rule.
type CappedViolation struct {
	List       int64
	TraceID    trace.ID
	TraceStart trace.Time
	// About are the spans to which it refers.
	About []trace.SpanID
	// Spans is the number of spans of the trace in the judgement that counts.
	Spans int
	// Status is [StatusOpen] or [StatusWithdrawn].
	Status string
	// Changed is the number of the entry that last corrected it, or 0.
	Changed int64
}

// ListedCapped is a capped violation with its list.
type ListedCapped struct {
	CappedList
	CappedViolation
}

const (
	cappedListColumns = "tenant, entry, ledger, pack, rule, rule_digest, severity"
	cappedColumns     = "list, trace_id, trace_start, about, spans, status, changed"
	listedColumns     = "l.id, l.tenant, l.entry, l.ledger, l.pack, l.rule, l.rule_digest, l.severity, v.list, v.trace_id, v.trace_start, v.about, v.spans, v.status, v.changed"
)

var insertCappedList = insertSQL("capped_lists", cappedListColumns) + " RETURNING id"

// cappedRows is the number of rows that one statement inserts. It saves round trips to PostgreSQL. The driver of SQLite
// needs a time that grows with the square of the number of parameters.
const cappedRows = 10

// PutCapped adds a list, whose ID it sets, with its violations.
func (tx *Tx) PutCapped(ctx context.Context, l *CappedList, violations []CappedViolation) error {
	err := tx.tx.QueryRowContext(ctx, insertCappedList, l.Tenant, l.Entry, l.Ledger, l.Pack, l.Rule, l.Digest, l.Severity).Scan(&l.ID)
	if err == nil {
		err = tx.insertCapped(ctx, l.ID, violations)
	}
	if err != nil {
		return fmt.Errorf("state: put capped violations of entry %d of tenant %q: %w", l.Entry, l.Tenant, err)
	}
	return nil
}

func (tx *Tx) insertCapped(ctx context.Context, list int64, violations []CappedViolation) error {
	columns := strings.Count(cappedColumns, ",") + 1
	insert := func(rows int, chunks [][]CappedViolation) error {
		values := make([]string, rows)
		for i := range values {
			values[i] = "(" + placeholders(1+i*columns, columns) + ")"
		}
		query := `INSERT INTO capped_violations (` + cappedColumns + `) VALUES ` + strings.Join(values, ", ")
		return execAll(ctx, tx.tx, query, chunks, func(chunk *[]CappedViolation) ([]any, error) {
			args := make([]any, 0, rows*columns)
			for i := range *chunk {
				v := &(*chunk)[i]
				args = append(args, list, v.TraceID.String(), startNanos(v.TraceStart), packSpans(v.About), v.Spans, v.Status, v.Changed)
			}
			return args, nil
		})
	}
	whole := len(violations) / cappedRows * cappedRows
	if err := insert(cappedRows, slices.Collect(slices.Chunk(violations[:whole], cappedRows))); err != nil {
		return err
	}
	return insert(1, slices.Collect(slices.Chunk(violations[whole:], 1)))
}

// packSpans returns the IDs of spans one after another.
func packSpans(ids []trace.SpanID) []byte {
	packed := make([]byte, 0, len(ids)*len(trace.SpanID{}))
	for i := range ids {
		packed = append(packed, ids[i][:]...)
	}
	return packed
}

func unpackSpans(packed []byte) ([]trace.SpanID, error) {
	const size = len(trace.SpanID{})
	if len(packed)%size != 0 {
		return nil, fmt.Errorf("%d bytes are no span IDs", len(packed))
	}
	var ids []trace.SpanID
	for id := range slices.Chunk(packed, size) {
		ids = append(ids, trace.SpanID(id))
	}
	return ids, nil
}

// UpdateCapped sets the spans, status and last change of capped violations. Nothing else of them can change.
func (tx *Tx) UpdateCapped(ctx context.Context, violations []CappedViolation) error {
	for i := range violations {
		v := &violations[i]
		result, err := tx.tx.ExecContext(ctx, `UPDATE capped_violations SET spans = $1, status = $2, changed = $3 WHERE list = $4 AND trace_id = $5`,
			v.Spans, v.Status, v.Changed, v.List, v.TraceID.String())
		var n int64
		if err == nil {
			n, err = result.RowsAffected()
		}
		if err == nil && n != 1 {
			err = errors.New("it does not exist")
		}
		if err != nil {
			return fmt.Errorf("state: update capped violation of trace %s: %w", v.TraceID, err)
		}
	}
	return nil
}

func scanListed(row scanner, v *ListedCapped) error {
	var id string
	var start int64
	var about []byte
	err := row.Scan(&v.ID, &v.Tenant, &v.Entry, &v.Ledger, &v.Pack, &v.Rule, &v.Digest, &v.Severity,
		&v.List, &id, &start, &about, &v.Spans, &v.Status, &v.Changed)
	if err == nil {
		v.TraceStart = trace.Time(start)
		v.TraceID, err = trace.ParseID(id)
	}
	if err == nil {
		v.About, err = unpackSpans(about)
	}
	return err
}

var cappedOfTraces = `SELECT ` + listedColumns + ` FROM capped_violations v JOIN capped_lists l ON l.id = v.list
	WHERE l.tenant = $1 AND v.trace_id IN (` + placeholders(2, traceChunk) + `)`

// CappedOfTraces returns all capped violations of the given traces of a tenant.
func (r *Reader) CappedOfTraces(ctx context.Context, tenant string, ids []trace.ID) (all []ListedCapped, err error) {
	var exist bool
	err = r.q.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM capped_lists WHERE tenant = $1)`, tenant).Scan(&exist)
	if err == nil && exist {
		err = r.eachOfTraces(ctx, cappedOfTraces, tenant, ids, func(row scanner) error {
			var v ListedCapped
			err := scanListed(row, &v)
			all = append(all, v)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("state: capped violations of traces of tenant %q: %w", tenant, err)
	}
	return all, nil
}

// CappedLists returns the lists of capped violations, by their IDs.
func (r *Reader) CappedLists(ctx context.Context) ([]CappedList, error) {
	lists, err := queryAll(ctx, r.q, func(row scanner, l *CappedList) error {
		return row.Scan(&l.ID, &l.Tenant, &l.Entry, &l.Ledger, &l.Pack, &l.Rule, &l.Digest, &l.Severity)
	}, `SELECT id, `+cappedListColumns+` FROM capped_lists ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("state: lists of capped violations: %w", err)
	}
	return lists, nil
}

// CountCapped returns the numbers of the capped violations that [Reader.EachCapped] returns, by the IDs of their lists.
func (r *Reader) CountCapped(ctx context.Context, filter ViolationFilter) (map[int64]int, error) {
	where, args := filter.cappedConditions()
	counts := map[int64]int{}
	err := queryEach(ctx, r.q, func(row scanner) error {
		var list int64
		var n int
		err := row.Scan(&list, &n)
		counts[list] = n
		return err
	}, `SELECT l.id, count(*) FROM capped_lists l JOIN capped_violations v ON v.list = l.id`+where+` GROUP BY l.id`, args...)
	if err != nil {
		return nil, fmt.Errorf("state: count capped violations: %w", err)
	}
	return counts, nil
}

// EachCapped calls f with the capped violations that match all fields of the filter but the service, the limit and After,
// list by list, until it returns an error. The last lists come first; a list is in the order of trace IDs.
func (r *Reader) EachCapped(ctx context.Context, filter ViolationFilter, f func(*ListedCapped) error) error {
	where, args := filter.cappedConditions()
	err := queryEach(ctx, r.q, func(row scanner) error {
		var v ListedCapped
		if err := scanListed(row, &v); err != nil {
			return err
		}
		return f(&v)
	}, `SELECT `+listedColumns+` FROM capped_lists l JOIN capped_violations v ON v.list = l.id`+where+` ORDER BY l.id DESC, v.trace_id`, args...)
	if err != nil {
		return fmt.Errorf("state: capped violations: %w", err)
	}
	return nil
}

// cappedConditions returns the conditions of a query for capped violations.
func (f *ViolationFilter) cappedConditions() (where string, args []any) {
	var conditions []string
	and := func(condition string, value any) {
		args = append(args, value)
		conditions = append(conditions, fmt.Sprintf("%s $%d", condition, len(args)))
	}
	for _, equal := range []struct{ column, value string }{
		{"l.tenant", f.Tenant}, {"l.pack", f.Pack}, {"l.rule", f.Rule}, {"l.severity", f.Severity}, {"v.status", f.Status},
	} {
		if equal.value != "" {
			and(equal.column+" =", equal.value)
		}
	}
	if f.TraceID != (trace.ID{}) {
		and("v.trace_id =", f.TraceID.String())
	}
	if !f.From.IsZero() {
		and("v.trace_start >=", startNanos(trace.TimeOf(f.From)))
	}
	if !f.To.IsZero() {
		and("v.trace_start <", startNanos(trace.TimeOf(f.To)))
	}
	if len(conditions) == 0 {
		return "", nil
	}
	return ` WHERE ` + strings.Join(conditions, " AND "), args
}
