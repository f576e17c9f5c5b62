package plan

import (
	"github.com/betracehq/betrace/analyzer/trace"
)

// columnData is a column of the batch.
type columnData struct {
	// text and its codes by row; text is nil if there is none.
	text *trace.TextColumn
	// attribute is nil for a field, and if the batch has none of that key.
	attribute *trace.Column
	isField   bool
}

func (d *columnData) find(b *trace.Batch, c column) {
	*d = columnData{isField: c.field != ""}
	switch c.domain {
	case spans:
		switch c.field {
		case "":
			d.attribute = b.Attribute(c.key)
		case "name":
			d.text = &b.Names
		case "statusMessage":
			d.text = &b.StatusMessages
		case "scope":
			d.text = &b.Scopes
		case "scopeVersion":
			d.text = &b.ScopeVersions
		}
	case resources:
		if d.isField { // the name of the service
			d.text = &b.Service().Text
		} else {
			d.attribute = b.ResourceAttribute(c.key)
		}
	case events:
		if d.isField {
			d.text = &b.Events.Names
		} else {
			d.attribute = b.Events.Attribute(c.key)
		}
	case links:
		d.attribute = b.Links.Attribute(c.key)
	}
	if d.attribute != nil {
		d.text = &d.attribute.Text
	}
}

// groupData says of the texts of a column which are asked for.
type groupData struct {
	batch, strip uint64 // when it was worked out
	// class is by code the text of the group, 0 for others.
	class []uint32
	// byResource is class by row of resources, for columns of those.
	byResource []uint32
	// live are the texts of the group that the column has.
	live  []bool
	texts []uint32 // those
	codes []uint32 // that have a class; of most texts there is one
	// met is how many rows of the last strip that was looked at for all had one of them.
	met int
}

// classify looks up the texts of the column, once a batch.
func (j *Judge) classify(g *textGroup, d *groupData) {
	d.batch = j.frame[events].stamp
	clear(d.live)
	d.texts, d.codes = d.texts[:0], d.codes[:0]
	col := &j.columns[g.column]
	if col.text == nil {
		return
	}
	n := col.text.NumTexts() + 1
	if cap(d.class) < n {
		d.class = make([]uint32, n+n/8)
	}
	d.class = d.class[:n]
	note := func(class, code uint32) {
		if class != 0 {
			d.codes = append(d.codes, code)
		}
		if class != 0 && !d.live[class] {
			d.live[class] = true
			d.texts = append(d.texts, class)
		}
	}
	d.class[0] = 0
	if col.isField {
		d.class[0] = g.texts[""]
		note(d.class[0], 0)
	}
	for code := 1; code < n; code++ {
		text := col.text.Bytes(uint32(code))
		class := uint32(0)
		if g.lengths[min(len(text), len(g.lengths)-1)] {
			class = g.texts[string(text)]
			note(class, uint32(code))
		}
		d.class[code] = class
	}
	if j.plan.columns[g.column].domain == resources && g.domain == spans {
		rows := j.b.Service().Rows()
		if cap(d.byResource) < rows {
			d.byResource = make([]uint32, rows+rows/8)
		}
		d.byResource = d.byResource[:rows]
		for r := range d.byResource {
			d.byResource[r] = d.class[codeOf(col.text, int32(r))]
		}
	}
}

func codeOf(c *trace.TextColumn, row int32) uint32 {
	if c.Codes == nil {
		return 0
	}
	return c.Codes[row]
}

// textIs returns the rows of the frame where a text is, nil if there are none.
func (j *Judge) textIs(p *predicate) trace.Bits {
	g := p.group
	d := &j.groups[g.id]
	f := &j.frame[g.domain]
	if d.batch != j.frame[events].stamp {
		j.classify(g, d)
		d.strip = 0
	}
	if len(d.texts) == 0 {
		return nil
	}
	if d.strip != f.stamp {
		d.strip = f.stamp
		j.markTexts(g, d, f)
	}
	if m := &j.memos[p.id]; m.stamp == f.stamp {
		return m.t
	}
	return nil
}

// markTexts sets the bits of all predicates of the group.
func (j *Judge) markTexts(g *textGroup, d *groupData, f *frame) {
	codes, class, looked := j.columns[g.column].text.Codes, d.class, d.codes
	switch {
	case j.plan.columns[g.column].domain == resources && g.domain == spans:
		codes = j.ofResources(d.byResource, f)
		class, looked = nil, d.texts // the codes are the classes
	case codes == nil:
		if class[0] != 0 {
			for _, p := range g.byText[class[0]] {
				copy(j.marks(p, f), f.all)
			}
		}
		return
	default:
		codes = codes[f.first:f.high]
	}
	// Where texts are often met, looking for each in turn is faster: nothing depends on what
	// comes next.
	if n := len(looked); n <= j.by.texts || n <= j.by.metTexts && d.met*j.by.often > int(f.high-f.low) {
		words := j.scratch.Take(f.words)
		for _, text := range looked {
			trace.SetEqual(words, codes, text)
			words.Keep(f.all)
			if words.IsEmpty() {
				continue // what is not marked costs nothing
			}
			if class != nil {
				text = class[text]
			}
			for _, p := range g.byText[text] {
				j.marks(p, f).Add(words)
			}
		}
		j.scratch.Give(1)
		return
	}
	d.met = 0
	for i := f.low - f.first; i < int32(len(codes)); i++ {
		c := codes[i]
		if class != nil {
			c = class[c]
		}
		if c != 0 {
			d.met++
			j.mark(g.byText[c], f, int(i>>6), 1<<(i&63))
		}
	}
}

// ofResources returns what a resource has, by row, for each span of the strip.
func (j *Judge) ofResources(by []uint32, f *frame) []uint32 {
	rows := j.b.Resources[f.first:f.high]
	j.byResource = sized(j.byResource, len(rows))
	for i, r := range rows {
		j.byResource[i] = by[r]
	}
	return j.byResource
}

func (j *Judge) mark(ps []*predicate, f *frame, word int, bit uint64) {
	for _, p := range ps {
		m := &j.memos[p.id]
		if m.stamp != f.stamp {
			j.marks(p, f)
		}
		m.t[word] |= bit
	}
}

// marks returns the bits of a predicate, none set if it has none yet.
func (j *Judge) marks(p *predicate, f *frame) trace.Bits {
	m := &j.memos[p.id]
	if m.stamp != f.stamp {
		m.stamp = f.stamp
		m.t = m.t.Resized(64 * f.words)
		clear(m.t)
	}
	return m.t
}

// table says of the texts of a column, by code, what a predicate is of them: 0 where it
// was not asked, otherwise one more than the truth.
type table struct {
	stamp uint64
	of    []uint8
}

func (j *Judge) tableOf(p *predicate, c *trace.TextColumn) []uint8 {
	t := &j.tables[p.id]
	if stamp := j.frame[events].stamp; t.stamp != stamp {
		t.stamp = stamp
		n := c.NumTexts() + 1
		if cap(t.of) < n {
			t.of = make([]uint8, n+n/8)
		}
		t.of = t.of[:n]
		clear(t.of)
	}
	return t.of
}

// has sets t to those rows of mask that have a value in the column.
func (j *Judge) has(col *columnData, f *frame, mask, t trace.Bits) {
	c := col.attribute
	if c == nil {
		clear(t)
		return
	}
	for w, in := range mask {
		t[w] = c.Present(int(f.first>>6)+w, in)
	}
	for row := range c.Others { // mask is not t: what is asked of the whole frame is kept
		if row >= f.low && row < f.high {
			if i := row - f.first; mask.Has(i) {
				t.Set(i)
			}
		}
	}
}

// numbers sets t to those rows of mask whose number passes the test.
func (j *Judge) numbers(p *predicate, f *frame, mask, t trace.Bits) {
	c := j.columns[p.column].attribute
	if c == nil || c.IsInt == nil && c.IsDouble == nil {
		clear(t)
		return
	}
	for w, in := range mask {
		var out uint64
		if in != 0 {
			at := int(f.first>>6) + w
			if c.IsInt != nil {
				if present := in & c.IsInt[at]; present != 0 {
					out = p.number.Ints(c.Ints[64*at:], present)
				}
			}
			if c.IsDouble != nil {
				if present := in & c.IsDouble[at]; present != 0 {
					out |= p.number.Doubles(c.Doubles[64*at:], present)
				}
			}
		}
		t[w] = out
	}
}

// durations sets t to those spans of mask whose duration passes the test.
func (j *Judge) durations(p *predicate, f *frame, mask, t trace.Bits) {
	durations := j.allDurations(f)
	for w, in := range mask {
		t[w] = 0
		if in != 0 {
			t[w] = p.number.Ints(durations[64*w:], in)
		}
	}
}

// allDurations returns the durations of the strip's spans, from the first bit on.
func (j *Judge) allDurations(f *frame) []int64 {
	if j.durationsOf != f.stamp {
		j.durationsOf = f.stamp
		n := min(int(f.first)+64*f.words, len(j.b.Starts))
		starts, ends := j.b.Starts[f.first:n], j.b.Ends[f.first:n]
		j.lasted = sized(j.lasted, len(starts))
		for i, start := range starts {
			j.lasted[i] = int64(ends[i].Sub(start))
		}
	}
	return j.lasted
}

// enums sets t to those spans of mask whose number is in the predicate's mask.
func enums[E ~int32](numbers []E, p *predicate, f *frame, mask, t trace.Bits) {
	for w, in := range mask {
		t[w] = 0
		if in != 0 {
			t[w] = trace.EnumsAmong(numbers[int(f.first)+64*w:], p.mask, in)
		}
	}
}
