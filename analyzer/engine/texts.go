package engine

import "github.com/betracehq/betrace/trace/columnar"

// groupData says of the texts of a column which are asked for.
type groupData struct {
	batch, strip uint64 // when it was worked out
	// class is by code the text of the group, 0 for others.
	class []uint32
	// byResource is class by row of resources, for columns of those.
	byResource []uint32
	// live are the texts of the group that the column has.
	live  []bool
	texts []uint32   // those
	of    []textRows // by class
}

// textRows are the rows of a frame that have a text.
type textRows struct {
	strip uint64 // the frame in which there are some
	bits  columnar.Bits
}

// classify looks up the texts of the column, once a batch.
func (j *Judge) classify(g *textGroup, d *groupData) {
	d.batch = j.frame[events].stamp
	clear(d.live)
	d.texts = d.texts[:0]
	col := &j.columns[g.column]
	if col.text == nil {
		return
	}
	n := col.text.NumTexts() + 1
	if cap(d.class) < n {
		d.class = make([]uint32, n+n/8)
	}
	d.class = d.class[:n]
	note := func(class uint32) {
		if class != 0 && !d.live[class] {
			d.live[class] = true
			d.texts = append(d.texts, class)
		}
	}
	d.class[0] = 0
	if col.isField {
		d.class[0] = g.texts[""]
		note(d.class[0])
	}
	for code := 1; code < n; code++ {
		text := col.text.Bytes(uint32(code))
		class := uint32(0)
		if g.lengths[min(len(text), len(g.lengths)-1)] {
			class = g.texts[string(text)]
			note(class)
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

// textsOf returns what is known of the texts that a predicate asks for, of the frame.
func (j *Judge) textsOf(p *predicate) *groupData {
	g := p.group
	d := &j.groups[g.id]
	if f := &j.frame[g.domain]; d.strip != f.stamp {
		d.strip = f.stamp
		if len(d.texts) > 0 {
			j.findTexts(g, d, f)
		}
	}
	return d
}

// hasText reports whether a row of the frame has one of a predicate's texts.
func (j *Judge) hasText(p *predicate) bool {
	d := j.textsOf(p)
	for _, c := range p.classes {
		if d.of[c].strip == d.strip {
			return true
		}
	}
	return false
}

// textIs returns the rows of the frame where a text is, nil if there are none.
func (j *Judge) textIs(p *predicate) columnar.Bits {
	d, f := j.textsOf(p), &j.frame[p.domain]
	if len(p.classes) == 1 {
		return d.of[p.classes[0]].allIn(f)
	}
	m := &j.memos[p.id]
	if m.stamp != f.stamp {
		for _, c := range p.classes {
			if all := d.of[c].allIn(f); all != nil {
				j.marks(p, f).Add(all)
			}
		}
	}
	if m.stamp == f.stamp {
		return m.t
	}
	return nil
}

// allIn returns the rows as bits, nil if there are none.
func (r *textRows) allIn(f *frame) columnar.Bits {
	if r.strip != f.stamp {
		return nil
	}
	return r.bits
}

// findTexts finds the rows of all texts of the group.
func (j *Judge) findTexts(g *textGroup, d *groupData, f *frame) {
	codes, class := j.columns[g.column].text.Codes, d.class
	switch {
	case j.plan.columns[g.column].domain == resources && g.domain == spans:
		codes = j.ofResources(d.byResource, f)
		class = nil // the codes are the classes
	case codes == nil:
		if class[0] != 0 {
			r := &d.of[class[0]]
			r.strip, r.bits = f.stamp, append(r.bits[:0], f.all...)
		}
		return
	default:
		codes = codes[f.first:f.high]
	}
	for i := f.low - f.first; i < int32(len(codes)); i++ {
		c := codes[i]
		if class != nil {
			c = class[c]
		}
		if c != 0 {
			r := &d.of[c]
			if r.strip != f.stamp {
				r.strip, r.bits = f.stamp, r.bits.Resized(64*f.words)
				clear(r.bits)
			}
			r.bits.Set(i)
		}
	}
}

// ofResources returns what a resource has, by row, for each span of the strip.
func (j *Judge) ofResources(by []uint32, f *frame) []uint32 {
	rows := j.b.Resources[f.first:f.high]
	j.codes = sized(j.codes, len(rows))
	for i, r := range rows {
		j.codes[i] = by[r]
	}
	return j.codes
}
