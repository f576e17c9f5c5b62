package state

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/trace"
)

// cappedCounts are the numbers of rows that belong to an entry.
type cappedCounts struct {
	// lists are those of the entry, changed the violations that it corrected last.
	lists, changed int64
}

// countCapped returns the numbers of rows of each entry in a range that has rows.
func (r *Reader) countCapped(ctx context.Context, tenant string, first, last int64) (map[int64]cappedCounts, error) {
	counts := map[int64]cappedCounts{}
	for _, c := range []struct {
		query string
		add   func(*cappedCounts, int64)
	}{
		{`SELECT entry, count(*) FROM capped_lists WHERE tenant = $1 AND entry >= $2 AND entry <= $3 GROUP BY entry`, func(c *cappedCounts, n int64) { c.lists = n }},
		{`SELECT v.changed, count(*) FROM capped_violations v JOIN capped_lists l ON l.id = v.list
			WHERE l.tenant = $1 AND v.changed >= $2 AND v.changed <= $3 AND v.changed <> 0 GROUP BY v.changed`, func(c *cappedCounts, n int64) { c.changed = n }},
	} {
		err := queryEach(ctx, r.q, func(row scanner) error {
			var entry, n int64
			err := row.Scan(&entry, &n)
			have := counts[entry]
			c.add(&have, n)
			counts[entry] = have
			return err
		}, c.query, tenant, first, last)
		if err != nil {
			return nil, err
		}
	}
	return counts, nil
}

// checkCapped checks the capped violations that an entry found first or corrected.
func (l *log) checkCapped(ctx context.Context, r *Reader, entry int64, signed *evidence.CappedRef, results *results, have cappedCounts) error {
	if results == nil {
		if signed == nil && have != (cappedCounts{}) {
			l.add(l.tenant, entry, "it has %d lists of capped violations and %d changes of some, and none were signed", have.lists, have.changed)
		}
		return nil // else the reason is known
	}
	if counted := evidence.NewCappedRef(results.Capped); (counted == nil) != (signed == nil) || counted != nil && *counted != *signed {
		l.add(l.tenant, entry, "its results have other numbers of capped violations than the entry")
		return nil
	}
	var lists, changed int64
	for i := range results.Capped {
		list := &results.Capped[i]
		ids, err := l.tracesOf(ctx, r, entry, list)
		if err != nil || ids == nil {
			return err
		}
		if list.Kind == evidence.CappedFound {
			lists++
			err = l.checkCappedList(ctx, r, entry, list, ids)
		} else {
			var n int64
			n, err = l.checkCappedChanges(ctx, r, entry, list, ids)
			changed += n
		}
		if err != nil {
			return err
		}
	}
	if lists != have.lists {
		l.add(l.tenant, entry, "it has %d lists of capped violations, and %d were signed", have.lists, lists)
	}
	if changed != have.changed {
		l.add(l.tenant, entry, "%d capped violations name it as their last change, and its lists have %d of them", have.changed, changed)
	}
	return nil
}

// tracesOf returns the traces of a list, or nil if they are damaged.
func (l *log) tracesOf(ctx context.Context, r *Reader, entry int64, list *evidence.CappedList) ([]trace.ID, error) {
	var stored []byte
	err := r.q.QueryRowContext(ctx, `SELECT content FROM blobs WHERE digest = $1`, list.Traces.SHA256).Scan(&stored)
	if errors.Is(err, sql.ErrNoRows) {
		l.add(l.tenant, entry, "a list of capped violations is missing: there is no blob %s", short(list.Traces.SHA256))
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", list.Traces.SHA256, err)
	}
	content, err := blobDecoder.DecodeAll(stored, nil)
	var ids []trace.ID
	if err == nil && *evidence.NewBlobRef(content) == list.Traces {
		ids, err = evidence.ParseTraceIDs(content)
	}
	if err != nil || len(ids) != list.Count || list.Count == 0 {
		l.add(l.tenant, entry, "a list of capped violations of the rule %s/%s was changed: the blob %s", list.Pack, list.Rule, short(list.Traces.SHA256))
		return nil, nil
	}
	return ids, nil
}

// checkCappedList compares the violations that an entry found first with the signed traces.
func (l *log) checkCappedList(ctx context.Context, r *Reader, entry int64, list *evidence.CappedList, ids []trace.ID) error {
	next, wrong := 0, ""
	err := queryEach(ctx, r.q, func(row scanner) error {
		var id, status, severity string
		var changed int64
		if err := row.Scan(&id, &status, &changed, &severity); err != nil {
			return err
		}
		switch {
		case wrong != "":
		case next == len(ids):
			wrong = fmt.Sprintf("trace %s was added", id)
		case id != ids[next].String():
			wrong = fmt.Sprintf("it has trace %s, and %s was signed", id, ids[next])
		case changed == 0 && status != StatusOpen:
			wrong = fmt.Sprintf("that of trace %s is %s, and no entry corrected it", id, status)
		case severity != list.Severity:
			wrong = fmt.Sprintf("its severity is %s, and %s was signed", severity, list.Severity)
		}
		next++
		return nil
	}, `SELECT v.trace_id, v.status, v.changed, l.severity FROM capped_lists l JOIN capped_violations v ON v.list = l.id
		WHERE l.tenant = $1 AND l.entry = $2 AND l.pack = $3 AND l.rule = $4 AND l.rule_digest = $5 ORDER BY v.trace_id`, l.tenant, entry, list.Pack, list.Rule, list.Digest)
	if err != nil {
		return err
	}
	if wrong == "" && next < len(ids) {
		wrong = fmt.Sprintf("trace %s is missing", ids[next])
	}
	if wrong != "" {
		l.add(l.tenant, entry, "its capped violations of the rule %s/%s: %s", list.Pack, list.Rule, wrong)
	}
	return nil
}

// checkCappedChanges compares the violations that an entry corrected with the signed traces. It returns the number of those
// that no later entry corrected.
func (l *log) checkCappedChanges(ctx context.Context, r *Reader, entry int64, list *evidence.CappedList, ids []trace.ID) (last int64, err error) {
	stmt, err := r.q.PrepareContext(ctx, `SELECT v.status, v.changed FROM capped_violations v JOIN capped_lists l ON l.id = v.list
		WHERE v.trace_id = $1 AND l.tenant = $2 AND l.pack = $3 AND l.rule = $4 AND l.rule_digest = $5`)
	if err != nil {
		return 0, err
	}
	defer stmt.Close() //nolint:errcheck // it was only read
	for _, id := range ids {
		rows, err := stmt.QueryContext(ctx, id.String(), l.tenant, list.Pack, list.Rule, list.Digest)
		if err != nil {
			return 0, err
		}
		wrong := "does not exist"
		err = eachRow(rows, func(row scanner) error {
			var status string
			var changed int64
			err := row.Scan(&status, &changed)
			if wrong = ""; changed == entry {
				last++
			}
			switch {
			case changed < entry:
				wrong = "does not have its correction"
			case changed == entry && status != statusAfter(string(list.Kind)):
				wrong = fmt.Sprintf("is %s, and its last correction is %q", status, list.Kind)
			}
			return err
		})
		if err != nil {
			return 0, err
		}
		if wrong != "" {
			l.add(l.tenant, entry, "the capped violation of trace %s by the rule %s/%s, which it corrected, %s", id, list.Pack, list.Rule, wrong)
		}
	}
	return last, nil
}

// namedBlobs returns the digests of the blobs that an entry names, whose signature is not checked.
func (r *Reader) namedBlobs(ctx context.Context, envelope []byte) ([]string, error) {
	var e struct{ Payload []byte }
	var s struct {
		Results *evidence.BlobRef
		Capped  *evidence.CappedRef
	}
	if json.Unmarshal(envelope, &e) != nil || json.Unmarshal(e.Payload, &s) != nil || s.Results == nil {
		return nil, nil
	}
	named := []string{s.Results.SHA256}
	if s.Capped == nil {
		return named, nil
	}
	var stored []byte
	err := r.q.QueryRowContext(ctx, `SELECT content FROM blobs WHERE digest = $1`, s.Results.SHA256).Scan(&stored)
	if errors.Is(err, sql.ErrNoRows) {
		return named, nil
	}
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", s.Results.SHA256, err)
	}
	var results struct{ Capped []evidence.CappedList }
	if content, err := blobDecoder.DecodeAll(stored, nil); err == nil && json.Unmarshal(content, &results) == nil {
		for _, l := range results.Capped {
			named = append(named, l.Traces.SHA256)
		}
	}
	return named, nil
}
