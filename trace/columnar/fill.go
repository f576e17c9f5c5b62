package columnar

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"

	"github.com/betracehq/betrace/trace"
)

func compareText(a, b string) int { return strings.Compare(a, b) }

// SpanKeys holds the fields that determine the places of spans in their traces. The indices are the numbers
// that the source gives the spans, from 0.
type SpanKeys struct {
	IDs, ParentIDs []trace.SpanID
	Starts, Ends   []trace.Time
	Kinds          []trace.Kind
}

// Len returns the number of spans.
func (k *SpanKeys) Len() int { return len(k.IDs) }

// Resize sets the number of spans to n. Existing spans keep their values, the values of new ones are
// undefined.
func (k *SpanKeys) Resize(n int) {
	k.IDs, k.ParentIDs = resized(k.IDs, n), resized(k.ParentIDs, n)
	k.Starts, k.Ends, k.Kinds = resized(k.Starts, n), resized(k.Ends, n), resized(k.Kinds, n)
}

// Reserve allocates room for n spans and some more. The sizes of successive batches vary a little, and each
// reallocation would copy everything.
func (k *SpanKeys) Reserve(n int) {
	if n > cap(k.IDs) {
		before := k.Len()
		k.Resize(n + n/16)
		k.Resize(before)
	}
}

// resized returns s with n elements.
func resized[S ~[]E, E any](s S, n int) S {
	if n > cap(s) {
		s = append(make(S, 0, max(n, 2*len(s))), s...)
	}
	return s[:n]
}

// SpanRun is a range of spans with adjacent numbers, from From to before To.
type SpanRun struct{ From, To int32 }

// Filler builds batches from spans in any order, and brings columns into normal form:
//
//  1. The source numbers the spans in any order, sets their Keys, and calls Reset.
//  2. It calls AddTrace for each trace with the numbers of its spans. Drop removes the last trace again.
//  3. It calls Layout. From then on Place holds the row of each span's other fields and attributes, by the
//     span's number, or -1 for spans that were dropped or not added. Further copies of a span have rows
//     after those of the batch.
//  4. It fills the columns of the batch. If all attributes of a scope are needed, Column adds their columns.
//  5. It calls Finish, which merges copies and returns the batch.
//
// A Filler reuses its memory: a batch is valid until the next Reset.
type Filler struct {
	// Keys are indexed by the spans' numbers. They are not changed.
	Keys SpanKeys
	// Place is indexed by the spans' numbers. It is valid after Layout.
	Place []int32

	needs  Needs
	b      Batch
	copies []spanCopy
	order  []orderKey
	packed [1 << packedBits]uint64
	table  idTable
	spare  map[Scope][]*Column
	byKey  map[AttributeKey]*Column
	proto  protoFill
}

// spanCopy is a further copy of the span in row of: the span with the number at.
type spanCopy struct{ of, trace, at int32 }

// packedBits is the number of bits for the number of a span of a small trace.
const packedBits = 6

// orderKey holds the first sort key of a span, and its number.
type orderKey struct {
	start trace.Time
	i     int32
}

// NewFiller returns a Filler whose batches hold the fields and attributes that are needed.
func NewFiller(needs Needs) *Filler {
	return &Filler{needs: needs, spare: map[Scope][]*Column{}, byKey: map[AttributeKey]*Column{}}
}

// Reset starts a batch of some or all of the spans whose keys are set. It invalidates the previous batch.
func (f *Filler) Reset() {
	b := &f.b
	n := f.Keys.Len()
	f.Place = sized(f.Place, n)
	for i := range f.Place {
		f.Place[i] = -1
	}
	b.IDs, b.Flags, b.First = b.IDs[:0], b.Flags[:0], append(b.First[:0], 0)
	b.SpanIDs, b.ParentIDs, b.Parents = sized(b.SpanIDs, n)[:0], sized(b.ParentIDs, n)[:0], sized(b.Parents, n)[:0]
	b.Starts, b.Ends, b.Kinds = sized(b.Starts, n)[:0], sized(b.Ends, n)[:0], sized(b.Kinds, n)[:0]
	f.copies = f.copies[:0]
}

// AddTrace adds a trace with the given spans, at least one. A batch must not contain a span or a trace twice.
func (f *Filler) AddTrace(id trace.ID, spans ...SpanRun) {
	b, k := &f.b, &f.Keys
	base := int32(len(b.SpanIDs))
	flags := trace.Flags(0)
	n := 0
	for _, run := range spans {
		n += int(run.To - run.From)
	}
	f.order = sized(f.order, n)
	if len(spans) != 1 || !f.sortFew(spans[0]) {
		f.sort(spans)
	}
	order := f.order
	// Reset made room for all spans.
	end := int(base) + n
	b.SpanIDs, b.ParentIDs, b.Starts, b.Ends, b.Kinds = b.SpanIDs[:end], b.ParentIDs[:end], b.Starts[:end], b.Ends[:end], b.Kinds[:end]
	ids, parentIDs, starts, ends, kinds := b.SpanIDs[base:end], b.ParentIDs[base:end], b.Starts[base:end], b.Ends[base:end], b.Kinds[base:end]
	for j, o := range order {
		end := k.Ends[o.i]
		if end < o.start {
			end = o.start
			flags |= trace.FlagEndBeforeStart
		}
		ids[j], parentIDs[j], starts[j], ends[j], kinds[j] = k.IDs[o.i], k.ParentIDs[o.i], o.start, end, k.Kinds[o.i]
		f.Place[o.i] = base + int32(j)
	}
	b.Parents = b.Parents[:end]
	if !f.table.link(ids, parentIDs, b.Parents[base:end], base) {
		f.uniteCopies(base)
		f.link(base)
	}
	b.IDs, b.Flags = append(b.IDs, id), append(b.Flags, flags)
	b.First = append(b.First, int32(len(b.SpanIDs)))
}

// sort sorts order by start, span ID and kind.
func (f *Filler) sort(spans []SpanRun) {
	k := &f.Keys
	f.order = f.order[:0]
	sorted := true
	last := trace.Time(0)
	for _, run := range spans {
		for i, start := range k.Starts[run.From:run.To] {
			sorted = sorted && (last < start || len(f.order) == 0)
			last = start
			f.order = append(f.order, orderKey{start, run.From + int32(i)})
		}
	}
	if sorted {
		return
	}
	less := func(a, b orderKey) int {
		switch {
		case a.start != b.start:
			if a.start < b.start {
				return -1
			}
			return 1
		}
		if c := k.IDs[a.i].Compare(k.IDs[b.i]); c != 0 {
			return c
		}
		return cmp.Compare(k.Kinds[a.i], k.Kinds[b.i])
	}
	slices.SortFunc(f.order, less)
}

// sortFew sorts the spans of a small trace by their starts only. It packs the start, relative to the first
// one, and the number of a span into one integer, which takes half the time of sort. It returns false if two
// starts are equal or too far apart.
func (f *Filler) sortFew(run SpanRun) bool {
	starts := f.Keys.Starts[run.From:run.To]
	if len(starts) == 0 || len(starts) > len(f.packed) {
		return false
	}
	first, last := starts[0], starts[0]
	for _, start := range starts {
		first, last = min(first, start), max(last, start)
	}
	if last-first >= 1<<(64-packedBits) {
		return false
	}
	packed := f.packed[:len(starts)]
	for i, start := range starts {
		p := uint64(start-first)<<packedBits | uint64(i)
		j := i
		for ; j > 0 && packed[j-1] > p; j-- {
			packed[j] = packed[j-1]
		}
		packed[j] = p
	}
	order := f.order[:len(packed)]
	before := ^uint64(0)
	for i, p := range packed {
		start := p >> packedBits
		if start == before {
			return false
		}
		before = start
		order[i] = orderKey{first + trace.Time(start), run.From + int32(p&(1<<packedBits-1))}
	}
	return true
}

// uniteCopies keeps the first in order of the spans that have the same ID and kind, and records the others as
// its copies.
func (f *Filler) uniteCopies(base int32) {
	b, k := &f.b, &f.Keys
	type spanIdentity struct {
		id   trace.SpanID
		kind trace.Kind
	}
	first := map[spanIdentity]int32{}
	n := base
	for _, o := range f.order {
		ident := spanIdentity{k.IDs[o.i], k.Kinds[o.i]}
		if row, again := first[ident]; again {
			f.copies = append(f.copies, spanCopy{of: row, trace: int32(len(b.IDs)), at: o.i})
			continue
		}
		first[ident] = n
		b.SpanIDs[n], b.ParentIDs[n], b.Kinds[n] = ident.id, k.ParentIDs[o.i], ident.kind
		b.Starts[n], b.Ends[n] = o.start, max(o.start, k.Ends[o.i])
		f.Place[o.i] = n
		n++
	}
	b.SpanIDs, b.ParentIDs, b.Starts, b.Ends, b.Kinds = b.SpanIDs[:n], b.ParentIDs[:n], b.Starts[:n], b.Ends[:n], b.Kinds[:n]
}

// link sets the parents of the spans from base on, which form one trace.
func (f *Filler) link(base int32) {
	b := &f.b
	b.Parents = b.Parents[:base]
	for _, p := range trace.Parents(len(b.SpanIDs)-int(base), func(i int) (trace.SpanID, trace.SpanID, trace.Kind) {
		return b.SpanIDs[int(base)+i], b.ParentIDs[int(base)+i], b.Kinds[int(base)+i]
	}) {
		if p >= 0 {
			p += base
		}
		b.Parents = append(b.Parents, p)
	}
}

// LastStart returns the start of the last added trace. Merging an unequal copy of a span may still change it.
func (f *Filler) LastStart() trace.Time { return f.b.Starts[f.b.First[len(f.b.IDs)-1]] }

// Drop removes the last added trace.
func (f *Filler) Drop() {
	b := &f.b
	t := len(b.IDs) - 1
	n := b.First[t]
	b.IDs, b.Flags, b.First = b.IDs[:t], b.Flags[:t], b.First[:t+1]
	b.SpanIDs, b.ParentIDs, b.Parents = b.SpanIDs[:n], b.ParentIDs[:n], b.Parents[:n]
	b.Starts, b.Ends, b.Kinds = b.Starts[:n], b.Ends[:n], b.Kinds[:n]
	for _, o := range f.order {
		f.Place[o.i] = -1
	}
	for len(f.copies) > 0 && f.copies[len(f.copies)-1].trace == int32(t) {
		f.copies = f.copies[:len(f.copies)-1]
	}
}

// NumSpans returns the number of added spans, without copies.
func (f *Filler) NumSpans() int { return len(f.b.SpanIDs) }

// Layout ends the adding of traces. The arguments are the numbers of rows for resources, events and links. It
// returns the batch to fill, whose columns have a row for each span and for each further copy.
func (f *Filler) Layout(resources, events, links int) *Batch {
	b, k := &f.b, &f.Keys
	n := len(b.SpanIDs)
	for i, c := range f.copies {
		f.Place[c.at] = int32(n + i)
		b.SpanIDs, b.ParentIDs, b.Parents = append(b.SpanIDs, k.IDs[c.at]), append(b.ParentIDs, k.ParentIDs[c.at]), append(b.Parents, -1)
		b.Starts, b.Ends, b.Kinds = append(b.Starts, k.Starts[c.at]), append(b.Ends, max(k.Starts[c.at], k.Ends[c.at])), append(b.Kinds, k.Kinds[c.at])
	}
	rows := len(b.SpanIDs)
	b.Statuses = zeroed(b.Statuses, rows)
	b.Resources = zeroed(b.Resources, rows)
	text := func(c *TextColumn, needed bool) {
		codes := c.Codes
		c.reset()
		c.Codes = nil
		if needed {
			c.Codes = zeroed(codes, rows)
		}
	}
	text(&b.Names, true)
	text(&b.StatusMessages, f.needs.All || f.needs.StatusMessage)
	text(&b.Scopes, f.needs.All || f.needs.Instrumentation)
	text(&b.ScopeVersions, f.needs.All || f.needs.Instrumentation)

	clear(f.byKey)
	f.columns(&b.Attributes, ScopeSpan, rows)
	f.columns(&b.ResourceAttributes, ScopeResource, resources)
	f.columns(&b.Events.Attributes, ScopeEvent, events)
	f.columns(&b.Links.Attributes, ScopeLink, links)
	e, l := &b.Events, &b.Links
	e.From, e.To, e.Times, l.From, l.To, l.TraceIDs, l.SpanIDs = nil, nil, nil, nil, nil, nil, nil
	e.Names.reset()
	e.Names.Codes = nil
	if events > 0 {
		e.From, e.To, e.Times = make([]int32, rows), make([]int32, rows), make([]trace.Time, events)
		e.Names.Codes = make([]uint32, events)
	}
	if links > 0 {
		l.From, l.To, l.TraceIDs, l.SpanIDs = make([]int32, rows), make([]int32, rows), make([]trace.ID, links), make([]trace.SpanID, links)
	}
	return b
}

// columns creates the columns of the scope's attributes that are needed by name.
func (f *Filler) columns(cols *[]*Column, scope Scope, rows int) {
	f.spare[scope] = append(f.spare[scope], *cols...)
	*cols = (*cols)[:0]
	if scope == ScopeResource {
		f.Column(scope, trace.ServiceName, rows)
	}
	for _, key := range f.needs.Keys(scope) {
		f.Column(scope, key, rows)
	}
}

// Column returns the column of an attribute. If the batch does not have it, Column creates it with the given
// number of rows.
func (f *Filler) Column(scope Scope, key string, rows int) *Column {
	k := AttributeKey{scope, key}
	if c := f.byKey[k]; c != nil {
		return c
	}
	spare := f.spare[scope]
	var c *Column
	if i := slices.IndexFunc(spare, func(c *Column) bool { return c.Key == key }); i >= 0 {
		c = spare[i]
		f.spare[scope] = slices.Delete(spare, i, i+1)
	} else {
		c = &Column{}
	}
	c.Key = strings.Clone(key)
	c.reset(rows)
	k.Key = c.Key
	f.byKey[k] = c
	cols := f.columnsOf(scope)
	*cols = append(*cols, c)
	return c
}

func (f *Filler) columnsOf(scope Scope) *[]*Column {
	switch scope {
	case ScopeResource:
		return &f.b.ResourceAttributes
	case ScopeEvent:
		return &f.b.Events.Attributes
	case ScopeLink:
		return &f.b.Links.Attributes
	}
	return &f.b.Attributes
}

// FlagSpan sets a flag of the trace to which a span's row belongs.
func (f *Filler) FlagSpan(row int32, flag trace.Flags) { f.b.Flags[f.traceOf(row)] |= flag }

func (f *Filler) traceOf(row int32) int {
	if n := f.b.First[len(f.b.IDs)]; row >= n {
		return int(f.copies[row-n].trace)
	}
	t, found := slices.BinarySearch(f.b.First, row)
	if !found {
		t--
	}
	for f.b.First[t+1] == row { // skips traces without spans, which should not exist
		t++
	}
	return t
}

// Finish merges the copies of spans and returns the batch, in normal form.
func (f *Filler) Finish() *Batch {
	b := &f.b
	byKey := func(x, y *Column) int { return compareText(x.Key, y.Key) }
	slices.SortFunc(b.Attributes, byKey)
	slices.SortFunc(b.ResourceAttributes[1:], byKey)
	slices.SortFunc(b.Events.Attributes, byKey)
	slices.SortFunc(b.Links.Attributes, byKey)
	for _, c := range b.Attributes {
		c.settle(func(row int32) { f.FlagSpan(row, trace.FlagRepeatedKey) })
	}
	// For resources, events and links the spans are no longer known. The values are right; sources that see
	// repeated keys set the flag.
	for _, cols := range [][]*Column{b.ResourceAttributes, b.Events.Attributes, b.Links.Attributes} {
		for _, c := range cols {
			c.settle(func(int32) {})
		}
	}
	n := int(b.First[len(b.IDs)])
	moved := int32(-1) // trace with a span whose start or parent has changed
	mend := func() {
		if moved >= 0 {
			f.mend(moved)
		}
		moved = -1
	}
	for i, c := range f.copies {
		if c.trace != moved {
			mend()
		}
		changed, again := f.merge(c.of, int32(n+i))
		if changed {
			b.Flags[c.trace] |= trace.FlagMerged
		}
		if again {
			moved = c.trace
		}
	}
	mend()
	f.truncate(n)
	return b
}

// merge merges row q into row p, a copy of the same span: p gets the greater of each field. unequal reports
// whether the copies were unequal; moved reports whether the place of the span, or of its children, may have
// changed.
func (f *Filler) merge(p, q int32) (unequal, moved bool) {
	b := &f.b
	if b.ParentIDs[p] != b.ParentIDs[q] {
		unequal = true
		if b.ParentIDs[q].Compare(b.ParentIDs[p]) > 0 {
			b.ParentIDs[p], moved = b.ParentIDs[q], true
		}
	}
	if b.Starts[p] != b.Starts[q] {
		unequal = true
		moved = moved || b.Starts[q] > b.Starts[p]
		b.Starts[p] = max(b.Starts[p], b.Starts[q])
	}
	if b.Ends[p] != b.Ends[q] {
		unequal = true
		b.Ends[p] = max(b.Ends[p], b.Ends[q])
	}
	if b.Statuses[p] != b.Statuses[q] {
		unequal = true
		b.Statuses[p] = max(b.Statuses[p], b.Statuses[q])
	}
	for _, c := range []*TextColumn{&b.Names, &b.StatusMessages, &b.Scopes, &b.ScopeVersions} {
		if x, y := c.code(p), c.code(q); x != y {
			if d := compareText(c.Text(x), c.Text(y)); d != 0 {
				unequal = true
				if d < 0 {
					c.Codes[p] = y
				}
			}
		}
	}
	for _, c := range b.Attributes {
		unequal = c.mergeRow(p, q) || unequal
	}
	if b.Resources[p] != b.Resources[q] {
		unequal = f.mergeResources(p, q) || unequal
	}
	if e := &b.Events; e.From != nil {
		switch c := trace.CompareLists(e.of(p), e.of(q), trace.CompareEventKeys); {
		case c < 0:
			unequal = true
			e.From[p], e.To[p] = e.From[q], e.To[q]
		case c > 0:
			unequal = true
		default:
			unequal = mergeRows(e.Attributes, e.From[p], e.To[p], e.From[q]) || unequal
		}
	}
	if l := &b.Links; l.From != nil {
		switch c := trace.CompareLists(l.of(p), l.of(q), trace.CompareLinkKeys); {
		case c < 0:
			unequal = true
			l.From[p], l.To[p] = l.From[q], l.To[q]
		case c > 0:
			unequal = true
		default:
			unequal = mergeRows(l.Attributes, l.From[p], l.To[p], l.From[q]) || unequal
		}
	}
	return unequal, moved
}

// mergeRows merges as many rows from other on into the rows [from, to), as mergeRow does, and reports whether
// any were unequal.
func mergeRows(columns []*Column, from, to, other int32) (unequal bool) {
	for _, c := range columns {
		for row := from; row < to; row++ {
			unequal = c.mergeRow(row, other+row-from) || unequal
		}
	}
	return unequal
}

// mergeRow sets row p to the greater value of rows p and q, and reports whether they were unequal.
func (c *Column) mergeRow(p, q int32) bool {
	v, w := c.Value(p), c.Value(q)
	if v.Equal(w) {
		return false
	}
	c.Put(p, w)
	return true
}

// mergeResources sets the resource of row p to one with the greater value of each attribute.
func (f *Filler) mergeResources(p, q int32) (unequal bool) {
	b := &f.b
	x, y := b.Resources[p], b.Resources[q]
	for _, c := range b.ResourceAttributes {
		unequal = unequal || !c.Value(x).Equal(c.Value(y))
	}
	if !unequal {
		return false
	}
	// Other spans share these resources, so the merged one becomes a new row.
	for _, c := range b.ResourceAttributes {
		row := c.grow()
		c.Put(row, c.Value(x))
		c.Put(row, c.Value(y))
		b.Resources[p] = row
	}
	return true
}

// mend sorts the spans of a trace again and finds their parents.
func (f *Filler) mend(t int32) {
	b := &f.b
	lo, hi := b.First[t], b.First[t+1]
	from := make([]int32, hi-lo) // old rows, by new place
	for i := range from {
		from[i] = lo + int32(i)
	}
	slices.SortFunc(from, func(x, y int32) int {
		a := trace.Span{Start: b.Starts[x], ID: b.SpanIDs[x], Kind: b.Kinds[x]}
		c := trace.Span{Start: b.Starts[y], ID: b.SpanIDs[y], Kind: b.Kinds[y]}
		return a.CompareOrder(&c)
	})
	permute(b.SpanIDs, lo, from)
	permute(b.ParentIDs, lo, from)
	permute(b.Starts, lo, from)
	permute(b.Ends, lo, from)
	permute(b.Kinds, lo, from)
	permute(b.Statuses, lo, from)
	permute(b.Resources, lo, from)
	for _, c := range []*TextColumn{&b.Names, &b.StatusMessages, &b.Scopes, &b.ScopeVersions} {
		if c.Codes != nil {
			permute(c.Codes, lo, from)
		}
	}
	for _, c := range b.Attributes {
		values := make([]trace.Value, len(from))
		for i, row := range from {
			values[i] = c.Value(row)
		}
		for i, v := range values {
			c.Remove(lo + int32(i))
			c.Put(lo+int32(i), v)
		}
	}
	if b.Events.From != nil {
		permute(b.Events.From, lo, from)
		permute(b.Events.To, lo, from)
	}
	if b.Links.From != nil {
		permute(b.Links.From, lo, from)
		permute(b.Links.To, lo, from)
	}
	for i, p := range trace.Parents(len(from), func(i int) (trace.SpanID, trace.SpanID, trace.Kind) {
		row := lo + int32(i)
		return b.SpanIDs[row], b.ParentIDs[row], b.Kinds[row]
	}) {
		if p >= 0 {
			p += lo
		}
		b.Parents[lo+int32(i)] = p
	}
}

func permute[E any](s []E, lo int32, from []int32) {
	moved := make([]E, len(from))
	for i, row := range from {
		moved[i] = s[row]
	}
	copy(s[lo:], moved)
}

// truncate removes the rows of further copies.
func (f *Filler) truncate(n int) {
	b := &f.b
	b.SpanIDs, b.ParentIDs, b.Parents, b.Starts, b.Ends = b.SpanIDs[:n], b.ParentIDs[:n], b.Parents[:n], b.Starts[:n], b.Ends[:n]
	b.Kinds, b.Statuses, b.Resources = b.Kinds[:n], b.Statuses[:n], b.Resources[:n]
	for _, c := range []*TextColumn{&b.Names, &b.StatusMessages, &b.Scopes, &b.ScopeVersions} {
		if c.Codes != nil {
			c.Codes = c.Codes[:n]
		}
	}
	for _, c := range b.Attributes {
		c.truncate(n)
	}
	if b.Events.From != nil {
		b.Events.From, b.Events.To = b.Events.From[:n], b.Events.To[:n]
	}
	if b.Links.From != nil {
		b.Links.From, b.Links.To = b.Links.From[:n], b.Links.To[:n]
	}
}

// idTable is an open hash table that finds spans of one trace by ID. For small traces it is a table of bytes,
// which is so sparse that there are hardly any collisions.
type idTable struct {
	few  [256]uint8
	many []int32
}

// fewIDs is the maximum number of spans in a table of bytes.
const fewIDs = 64

// link sets the parents of the spans as indices that begin at base, or -1 for none. If two spans have the
// same ID, it returns false and sets no parents.
func (t *idTable) link(ids, parentIDs []trace.SpanID, parents []int32, base int32) (unique bool) {
	if len(ids) <= fewIDs {
		clear(t.few[:])
		return linkIn(t.few[:], ids, parentIDs, parents, base)
	}
	t.many = zeroed(t.many, 1<<bits.Len(uint(2*len(ids))))
	return linkIn(t.many, ids, parentIDs, parents, base)
}

// linkIn is link with an empty table, whose size is a power of two. A slot holds 1 + the index of a span, or
// 0 if it is free.
func linkIn[S uint8 | int32](table []S, ids, parentIDs []trace.SpanID, parents []int32, base int32) (unique bool) {
	mask := uint64(len(table) - 1)
	shift := uint(64-bits.Len64(mask)) & 63
	for j := range ids {
		id := key(&ids[j])
		at := hash(id) >> shift
		for ; table[at&mask] != 0; at++ {
			if key(&ids[table[at&mask]-1]) == id {
				return false
			}
		}
		table[at&mask] = S(j + 1)
	}
	for j := range parentIDs {
		parents[j] = -1
		id := key(&parentIDs[j])
		if id == 0 {
			continue
		}
		for at := hash(id) >> shift; table[at&mask] != 0; at++ {
			if i := table[at&mask] - 1; key(&ids[i]) == id {
				parents[j] = base + int32(i)
				break
			}
		}
	}
	return true
}

// key returns an ID as a number, in any byte order.
func key(id *trace.SpanID) uint64 { return binary.NativeEndian.Uint64(id[:]) }

// hash spreads a key over 64 bits. The highest bits are the best ones.
func hash(key uint64) uint64 { return key * 0x9e3779b97f4a7c15 }
