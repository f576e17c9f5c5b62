package engine

import (
	"strings"

	"github.com/betracehq/betrace/trace/columnar"
)

// columnData is a column of the batch.
type columnData struct {
	// text and its codes by row; text is nil if there is none.
	text *columnar.TextColumn
	// attribute is nil for a field, and if the batch has none of that key.
	attribute *columnar.Column
	isField   bool
	// first is attribute if it has several names of which the batch has more than one.
	first *columnar.Column
}

func (d *columnData) find(b *columnar.Batch, c column) {
	*d = columnData{isField: c.field != "", first: d.first}
	switch c.domain {
	case spans:
		switch c.field {
		case "":
			d.attribute = d.byName(c, b.Attribute)
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
			d.attribute = d.byName(c, b.ResourceAttribute)
		}
	case events:
		if d.isField {
			d.text = &b.Events.Names
		} else {
			d.attribute = d.byName(c, b.Events.Attribute)
		}
	case links:
		d.attribute = d.byName(c, b.Links.Attribute)
	}
	if a := d.attribute; a != nil {
		if isEmpty(a) {
			d.attribute = nil // nothing has a value
			return
		}
		d.text = &a.Text
	}
}

// byName returns the column of an attribute, by whichever of its names the batch has: if
// it has several, the first that is present in each row.
func (d *columnData) byName(c column, find func(key string) *columnar.Column) *columnar.Column {
	if c.older == "" {
		return find(c.key)
	}
	var named []*columnar.Column
	for _, name := range append([]string{c.key}, strings.Split(c.older, nameSeparator)...) {
		if a := find(name); a != nil && !isEmpty(a) {
			named = append(named, a)
		}
	}
	switch len(named) {
	case 0:
		return nil
	case 1:
		return named[0]
	}
	if d.first == nil {
		d.first = &columnar.Column{Key: c.key}
	}
	d.first.SetFirst(named)
	return d.first
}

// isEmpty reports whether no row has a value.
func isEmpty(a *columnar.Column) bool {
	return a.IsInt == nil && a.IsDouble == nil && a.IsBool == nil && a.Text.Codes == nil && len(a.Others) == 0
}

func codeOf(c *columnar.TextColumn, row int32) uint32 {
	if c.Codes == nil {
		return 0
	}
	return c.Codes[row]
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
func (j *Judge) marks(p *predicate, f *frame) columnar.Bits {
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

func (j *Judge) tableOf(p *predicate, c *columnar.TextColumn) []uint8 {
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
func (j *Judge) has(c *columnar.Column, f *frame, mask, t columnar.Bits) {
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
func (j *Judge) numbers(p *predicate, f *frame, mask, t columnar.Bits) {
	c := j.columns[p.column].attribute
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
func (j *Judge) durations(p *predicate, f *frame, mask, t columnar.Bits) {
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
func enums[E ~int32](numbers []E, p *predicate, f *frame, mask, t columnar.Bits) {
	for w, in := range mask {
		t[w] = 0
		if in != 0 {
			t[w] = columnar.EnumsAmong(numbers[int(f.first)+64*w:], p.mask, in)
		}
	}
}

func (j *Judge) isKind(p *predicate) bool { return j.plan.columns[p.column].field == "kind" }
