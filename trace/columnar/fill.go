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

// SpanKeys are what says where spans stand in their traces, by the numbers by which
// their source knows them, from 0.
type SpanKeys struct {
	IDs, ParentIDs []trace.SpanID
	Starts, Ends   []trace.Time
	Kinds          []trace.Kind
}

// Len returns how many spans there are.
func (k *SpanKeys) Len() int { return len(k.IDs) }

// Resize makes it n spans: those that are there stay, others have any values.
func (k *SpanKeys) Resize(n int) {
	k.IDs, k.ParentIDs = resized(k.IDs, n), resized(k.ParentIDs, n)
	k.Starts, k.Ends, k.Kinds = resized(k.Starts, n), resized(k.Ends, n), resized(k.Kinds, n)
}

// Reserve makes room for n spans, and some more: batches of one reading differ a little,
// and each growing would move all.
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

// SpanRun are adjacent spans, by their numbers: From to before To.
type SpanRun struct{ From, To int32 }

// Filler makes batches out of spans that come in any order. It is where columns are
// brought into normal form:
//
//  1. The source numbers the spans, in any order, and sets their Keys. Then Reset.
//  2. AddTrace for each trace, with the numbers of its spans. Drop takes the last back.
//  3. Layout. Now Place says for each span, by its number, the row in which its other
//     fields and attributes go, -1 for those dropped. A span that came more than once
//     has rows behind those of the batch for its copies.
//  4. The source fills the columns of the batch, and of attributes those that
//     SpanColumn and its like return.
//  5. Finish merges copies, and returns the batch.
//
// A Filler uses its memory again: a batch is valid until the next Reset.
type Filler struct {
	// Keys are by the spans' own numbers. They stay as they were set.
	Keys SpanKeys
	// Place is by the spans' own numbers, after Layout.
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

// spanCopy is a further copy of the span at row of: the span with the number at.
type spanCopy struct{ of, trace, at int32 }

// packedBits are enough for the number of a span of a small trace.
const packedBits = 6

// orderKey is what spans are sorted by first.
type orderKey struct {
	start trace.Time
	i     int32
}

// NewFiller returns a Filler of batches that hold what is needed.
func NewFiller(needs Needs) *Filler {
	return &Filler{needs: needs, spare: map[Scope][]*Column{}, byKey: map[AttributeKey]*Column{}}
}

// Reset begins a batch of some or all of the spans whose keys are set. The one before is
// not valid any more.
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

// AddTrace adds a trace that has these spans, one or more. Neither spans nor traces must
// come again in a batch.
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
	// Reset made room for them all.
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

// sort brings order into the order of the normal form.
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

// sortFew sorts the spans of a small trace by start alone: as starts, from the first on,
// with numbers in their last bits, which takes half the time. It gives up if two are
// equal, or too far apart.
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

// uniteCopies leaves the first in order of the spans that have one ID and kind, and
// notes the others as its copies.
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

// link finds the parents of the spans from base on, which are one trace.
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

// LastStart returns when the trace starts that was added last. A copy of a span that
// differs may still move it.
func (f *Filler) LastStart() trace.Time { return f.b.Starts[f.b.First[len(f.b.IDs)-1]] }

// Drop takes the trace back that was added last.
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

// NumSpans returns how many spans were added, without copies.
func (f *Filler) NumSpans() int { return len(f.b.SpanIDs) }

// Layout ends the adding of traces: there will be resources rows of resources, and so
// on. It returns the batch to be filled, whose columns have a row for each span and
// for each copy of one.
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

// columns makes the columns of a scope's attributes that are needed by name.
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

// Column returns the column of an attribute, which it makes if the batch does not have
// it, with so many rows.
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

// FlagSpan flags the trace of a span, by its row.
func (f *Filler) FlagSpan(row int32, flag trace.Flags) { f.b.Flags[f.traceOf(row)] |= flag }

func (f *Filler) traceOf(row int32) int {
	if n := f.b.First[len(f.b.IDs)]; row >= n {
		return int(f.copies[row-n].trace)
	}
	t, found := slices.BinarySearch(f.b.First, row)
	if !found {
		t--
	}
	for f.b.First[t+1] == row { // there is no trace without spans, but be sure
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
	// Of resources, events and links nobody can say any more whose they are: the values
	// are right, the flag is set by sources that see it.
	for _, cols := range [][]*Column{b.ResourceAttributes, b.Events.Attributes, b.Links.Attributes} {
		for _, c := range cols {
			c.settle(func(int32) {})
		}
	}
	n := int(b.First[len(b.IDs)])
	moved := int32(-1) // trace whose spans' starts or parents have changed
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

// merge takes the greater of each field from row q into row p, copies of one span. It
// reports whether they were unequal, and whether p may stand elsewhere now.
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

// mergeRows takes the greater values of rows [from, to) and as many from other on into
// those, and reports whether any were unequal.
func mergeRows(columns []*Column, from, to, other int32) (unequal bool) {
	for _, c := range columns {
		for row := from; row < to; row++ {
			unequal = c.mergeRow(row, other+row-from) || unequal
		}
	}
	return unequal
}

// mergeRow takes the greater value of rows p and q into p, and reports whether they
// were unequal.
func (c *Column) mergeRow(p, q int32) bool {
	v, w := c.Value(p), c.Value(q)
	if v.Equal(w) {
		return false
	}
	c.Put(p, w)
	return true
}

// mergeResources gives row p the resource that has the greater of each attribute.
func (f *Filler) mergeResources(p, q int32) (unequal bool) {
	b := &f.b
	x, y := b.Resources[p], b.Resources[q]
	for _, c := range b.ResourceAttributes {
		unequal = unequal || !c.Value(x).Equal(c.Value(y))
	}
	if !unequal {
		return false
	}
	// Other spans have these resources too: the merged one is a further row.
	for _, c := range b.ResourceAttributes {
		row := c.grow()
		c.Put(row, c.Value(x))
		c.Put(row, c.Value(y))
		b.Resources[p] = row
	}
	return true
}

// mend brings the spans of a trace into order again, and finds their parents.
func (f *Filler) mend(t int32) {
	b := &f.b
	lo, hi := b.First[t], b.First[t+1]
	from := make([]int32, hi-lo) // by new place: the old row
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

// truncate takes the rows of copies away.
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

// idTable finds spans of one trace by ID: an open hash table, of bytes where the trace is small,
// so that it is nearly empty and hardly any comparison goes wrong.
type idTable struct {
	few  [256]uint8
	many []int32
}

// fewIDs is up to how many spans a table of bytes holds.
const fewIDs = 64

// link finds the parents of spans, as numbers from base on, -1 for none. It reports
// whether no two spans have the same ID; if they do, it finds none.
func (t *idTable) link(ids, parentIDs []trace.SpanID, parents []int32, base int32) (unique bool) {
	if len(ids) <= fewIDs {
		clear(t.few[:])
		return linkIn(t.few[:], ids, parentIDs, parents, base)
	}
	t.many = zeroed(t.many, 1<<bits.Len(uint(2*len(ids))))
	return linkIn(t.many, ids, parentIDs, parents, base)
}

// linkIn is link in an empty table, whose size is a power of two: 1 + the span, 0 where it is free.
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

// key returns an ID as a number, in whatever order of bytes.
func key(id *trace.SpanID) uint64 { return binary.NativeEndian.Uint64(id[:]) }

// hash spreads a key over 64 bits, best over the first of them.
func hash(key uint64) uint64 { return key * 0x9e3779b97f4a7c15 }
