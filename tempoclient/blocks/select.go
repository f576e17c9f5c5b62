package blocks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/parquet-go/parquet-go"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/traceql"
)

// condition is a condition on a trace that single columns can decide before its spans are read: whether
// one of its spans, in any block, may match a filter. It never excludes a trace that matches. A nil
// condition excludes no trace.
//
// It combines facts about a trace, not about one span. If unequal copies of a span are merged, each field
// is from one of the copies, and the copies may be in several blocks.
type condition struct {
	op          traceql.Op // OpAnd, OpOr; of an atom, its own operator
	left, right *condition
	field       traceql.Field
	holds       func(text []byte) bool
}

// conditionOf returns the condition of a filter, or nil if there is none.
func conditionOf(f *traceql.Filter) *condition {
	if f == nil {
		return nil
	}
	return conditionOn(f.Widened().Expr())
}

func conditionOn(x traceql.Expr) *condition {
	b, ok := x.(traceql.Binary)
	if !ok {
		return nil
	}
	switch b.Op {
	case traceql.OpAnd:
		left, right := conditionOn(b.Left), conditionOn(b.Right)
		switch {
		case left == nil:
			return right
		case right == nil:
			return left
		}
		return &condition{op: b.Op, left: left, right: right}
	case traceql.OpOr:
		left, right := conditionOn(b.Left), conditionOn(b.Right)
		if left == nil || right == nil {
			return nil
		}
		return left.or(right)
	}
	field, isField := b.Left.(traceql.Field)
	holds := b.OnText()
	if !isField || holds == nil {
		return nil
	}
	switch field.Scope {
	case traceql.ScopeIntrinsic:
		if field != traceql.Intrinsic("span:name") {
			return nil
		}
	case traceql.ScopeSpan, traceql.ScopeResource, traceql.ScopeAny:
	default:
		return nil
	}
	return &condition{op: b.Op, field: field, holds: holds}
}

// addPaths adds the columns of a block that decide the condition.
func (c *condition) addPaths(b *block, paths map[string]bool) {
	if c.left != nil {
		c.left.addPaths(b, paths)
		c.right.addPaths(b, paths)
		return
	}
	if c.field.Scope == traceql.ScopeIntrinsic {
		paths[pathSpan+"Name"] = true
		return
	}
	if c.field.Scope != traceql.ScopeSpan && c.field.Key == trace.ServiceName {
		paths[pathResource+"ServiceName"] = true
	}
	for _, scope := range attributeScopes[:2] {
		if c.field.Scope != scope.scope && c.field.Scope != traceql.ScopeAny {
			continue
		}
		for path, key := range ownColumns(slices.Collect(maps.Keys(b.cols)), b.DedicatedColumns, scope.scope) {
			if key == c.field.Key {
				paths[path] = true
			}
		}
	}
}

// or joins two conditions. Each column is read once for any number of strings.
func (c *condition) or(d *condition) *condition {
	switch {
	case d.op == traceql.OpOr:
		return c.or(d.left).or(d.right)
	case d.left == nil && c.takeIn(d):
		return c
	}
	return &condition{op: traceql.OpOr, left: c, right: d}
}

// takeIn merges a condition on one field into one on the same field, if c is or contains such a
// condition.
func (c *condition) takeIn(d *condition) bool {
	switch {
	case c.op == traceql.OpOr:
		return c.left.takeIn(d) || c.right.takeIn(d)
	case c.left != nil || c.field != d.field:
		return false
	}
	one, other := c.holds, d.holds
	c.holds = func(text []byte) bool { return one(text) || other(text) }
	return true
}

// wanted returns the IDs of the segments' traces that may meet the condition, or nil if all may.
func (f *filling) wanted(ctx context.Context, c *condition) (map[trace.ID]bool, *block, error) {
	switch c.op {
	case traceql.OpAnd, traceql.OpOr:
		left, failed, err := f.wanted(ctx, c.left)
		if err != nil || left == nil && c.op == traceql.OpOr {
			return nil, failed, err
		}
		right, failed, err := f.wanted(ctx, c.right)
		switch {
		case err != nil || right == nil && c.op == traceql.OpOr:
			return nil, failed, err
		case c.op == traceql.OpOr:
			for id := range right {
				left[id] = true
			}
			return left, nil, nil
		case left == nil:
			return right, nil, nil
		case right == nil:
			return left, nil, nil
		}
		for id := range left {
			if !right[id] {
				delete(left, id)
			}
		}
		return left, nil, nil
	}
	ids := map[trace.ID]bool{}
	for _, s := range f.segments {
		f.turn(ctx, s.b)
		known, err := f.matching(s, c, ids)
		if err != nil || !known {
			return nil, s.b, err
		}
	}
	return ids, nil, nil
}

// matching adds the IDs of the segment's traces that have a string for which the condition holds. It
// reports whether its columns can decide the condition.
func (f *filling) matching(s *segment, c *condition, ids map[trace.ID]bool) (known bool, err error) {
	defer recovered(&err) // here the block is known
	var paths []string
	if c.field.Scope == traceql.ScopeIntrinsic {
		paths = []string{pathSpan + "Name"}
	}
	for _, scope := range attributeScopes[:2] { // spans and resources
		if c.field.Scope != scope.scope && c.field.Scope != traceql.ScopeAny {
			continue
		}
		own, generic, err := s.columnsOf(scope.scope, scope.path, c.field.Key)
		if err != nil || generic {
			return false, err
		}
		paths = append(paths, own...)
	}
	for _, path := range paths {
		if err := s.rowsWith(path, c.holds, func(row int) { ids[s.ids[row]] = true }); err != nil {
			return false, err
		}
	}
	return true, nil
}

// columnsOf returns the dedicated columns of an attribute in a block, and whether its values may be among
// the generic ones, too, as values of another type are.
func (s *segment) columnsOf(scope columnar.Scope, path, key string) (own []string, generic bool, err error) {
	if scope == columnar.ScopeResource && key == trace.ServiceName {
		own = append(own, path+"ServiceName")
	}
	for column, name := range wellKnown[path] {
		if _, ok := s.b.cols[path+column]; ok && name == key {
			own = append(own, path+column)
		}
	}
	eachDedicated(s.b.DedicatedColumns, scope, func(column string, c DedicatedColumn) {
		if c.Name == key {
			own = append(own, path+column)
		}
	})
	l, err := s.leaf(path + "Attrs.Key")
	if err != nil {
		return nil, false, err
	}
	dict, err := l.words(s)
	if err != nil || dict == nil {
		return own, true, err
	}
	return own, dict.has(key), nil
}

// rowsWith calls do for the rows of a segment in which a string column has a value for which holds is
// true.
func (s *segment) rowsWith(path string, holds func([]byte) bool, do func(row int)) error {
	l, err := s.leaf(path)
	if err != nil {
		return err
	}
	if l.kind != parquet.ByteArray {
		return nil // numbers: strings for the attribute are among the generic ones
	}
	dict, err := l.words(s)
	if err != nil {
		return fmt.Errorf("column %s: %w", path, err)
	}
	var matches []bool
	wordsOf := func(dict *dictionary) bool {
		matches = make([]bool, dict.len())
		for i := range matches {
			matches[i] = holds(dict.word(int32(i)))
		}
		return slices.Contains(matches, true)
	}
	if dict != nil && !wordsOf(dict) {
		return nil
	}
	row, last := -1, (*dictionary)(nil)
	return s.column(path, func(l leaf, p *page) error {
		if p.dict != nil && p.dict != last {
			last = p.dict
			wordsOf(p.dict)
		}
		at := 0
		for i := range p.entries {
			if p.rep == nil || p.rep[i] == 0 {
				row++
			}
			if !p.has(i) {
				continue
			}
			if p.codes != nil && matches[p.codes[at]] || p.codes == nil && holds(p.text(at)) {
				if row < 0 || row >= len(s.ids) {
					return fmt.Errorf("it has more than %d rows", len(s.ids))
				}
				do(row)
			}
			at++
		}
		return nil
	})
}

// leaveOut removes the rows of traces that need not be read: traces without a span in a new block, and
// traces without a span that may match the filter. The filter reads only the remaining rows of judged blocks.
func (f *filling) leaveOut(ctx context.Context) (failed *block, err error) {
	var fresh map[trace.ID]bool // nil: all
	if f.judged != nil {
		fresh = map[trace.ID]bool{}
		for _, s := range f.segments {
			if s.judged = f.judged(s.b.ID); s.judged {
				continue
			}
			for _, id := range s.ids {
				fresh[id] = true
			}
		}
		f.keepOnly(fresh)
	}
	if f.filter == nil {
		return nil, nil
	}
	judged := slices.DeleteFunc(slices.Clone(f.segments), func(s *segment) bool { return !s.judged })
	end, err := f.aheadOf(ctx, judged, func(b *block) map[string]bool {
		paths := map[string]bool{}
		f.filter.addPaths(b, paths)
		return paths
	})
	if err != nil {
		return nil, err
	}
	wanted, failed, err := f.wanted(ctx, f.filter)
	if err := errors.Join(err, end()); err != nil {
		return failed, err
	}
	if wanted == nil {
		return nil, nil
	}
	if fresh != nil {
		maps.DeleteFunc(wanted, func(id trace.ID, _ bool) bool { return !fresh[id] })
	}
	f.keepOnly(wanted)
	return nil, nil
}

// keepOnly removes the rows of other traces.
func (f *filling) keepOnly(wanted map[trace.ID]bool) {
	var kept []*segment
	for _, s := range f.segments {
		kept = f.keep(kept, s, wanted)
	}
	f.segments = kept
}

// keepAllFrom is the share of rows from which all rows are read, because decoding a page costs the same
// for one row as for all.
const keepAllFrom = 0.2

// keep appends the parts of a segment whose traces are wanted. Parts with less than a page between them
// are joined. If they are most of the segment, it is kept whole. Other traces in them are removed when
// traces are merged.
func (f *filling) keep(kept []*segment, s *segment, wanted map[trace.ID]bool) []*segment {
	n := 0
	for _, id := range s.ids {
		if wanted[id] {
			n++
		}
	}
	if n == 0 {
		f.spare = append(f.spare, s)
		return kept
	}
	s.wanted = nil
	if float64(n) >= keepAllFrom*float64(len(s.ids)) {
		if n < len(s.ids) {
			s.wanted = wanted
		}
		return append(kept, s)
	}
	most := s.rowsOfPage()
	for i := 0; i < len(s.ids); {
		if !wanted[s.ids[i]] {
			i++
			continue
		}
		end, all := i+1, true
		for next := end; next < len(s.ids) && next-end <= most; next++ {
			if wanted[s.ids[next]] {
				all = all && next == end
				end = next + 1
			}
		}
		part := f.segment()
		part.b, part.judged, part.in, part.group, part.wanted = s.b, s.judged, s.in, s.group, nil
		if !all {
			part.wanted = wanted
		}
		part.from, part.to = s.from+int64(i), s.from+int64(end)
		part.ids = append(part.ids[:0], s.ids[i:end]...)
		kept = append(kept, part)
		i = end
	}
	f.spare = append(f.spare, s)
	return kept
}

// rowsOfPage returns the approximate number of rows in a page of the span ID column. Pages of strings and
// attributes have fewer rows, pages of small numbers more.
func (s *segment) rowsOfPage() int {
	l, err := s.leaf(pathSpan + "SpanID")
	if err != nil {
		return 0
	}
	pages := len(s.chunk(l).pages)
	if pages == 0 {
		return len(s.ids) // pages are read from the first on
	}
	return int(s.b.rowsIn[s.group]) / pages
}

// markKnown marks the traces of the batch that have a part in judged blocks.
func (f *filling) markKnown() {
	f.batch.Known = f.batch.Known[:0]
	if f.judged == nil {
		return
	}
	known := map[trace.ID]bool{}
	for _, s := range f.segments {
		if s.judged {
			for _, id := range s.ids {
				known[id] = true
			}
		}
	}
	for range (f.batch.NumTraces() + 63) / 64 {
		f.batch.Known = append(f.batch.Known, 0)
	}
	for i, id := range f.batch.IDs {
		if known[id] {
			f.batch.Known.Set(int32(i))
		}
	}
}
