package plan

import (
	"math/bits"

	"github.com/betracehq/betrace/analyzer/trace"
)

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
	of  []textRows // by class
}

// textRows are the rows of a frame that have a text: as a list, or as bits, or both.
type textRows struct {
	strip, listed, inBits uint64     // the frame in which there are some, and of which rows and bits are
	rows                  []int32    // by bit, in order; not all if they are more than are listed
	bits                  trace.Bits // none is set beyond
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
func (j *Judge) textIs(p *predicate) trace.Bits {
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
func (r *textRows) allIn(f *frame) trace.Bits {
	if r.strip != f.stamp {
		return nil
	}
	if r.inBits != f.stamp {
		r.inBits = f.stamp
		r.bits = r.bits.Resized(64 * f.words)
		clear(r.bits)
		for _, i := range r.rows {
			r.bits.Set(i)
		}
	}
	return r.bits
}

// list returns the rows if they are not more than most.
func (r *textRows) list(f *frame, most int) (rows []int32, few bool) {
	if r.strip != f.stamp {
		return nil, true
	}
	if r.listed != f.stamp {
		r.listed, r.rows = f.stamp, r.rows[:0]
		for w, in := range r.bits {
			for ; in != 0; in &= in - 1 {
				r.rows = append(r.rows, int32(64*w+bits.TrailingZeros64(in)))
			}
			if len(r.rows) > most {
				break
			}
		}
	}
	return r.rows, len(r.rows) <= most
}

// add adds rows that are all that the text has of one code.
func (r *textRows) add(words trace.Bits, f *frame) {
	if r.strip != f.stamp {
		r.strip, r.inBits = f.stamp, f.stamp
		r.bits = append(r.bits[:0], words...)
		return
	}
	r.bits.Add(words)
}

// findTexts finds the rows of all texts of the group.
func (j *Judge) findTexts(g *textGroup, d *groupData, f *frame) {
	codes, class, looked := j.columns[g.column].text.Codes, d.class, d.codes
	switch {
	case j.plan.columns[g.column].domain == resources && g.domain == spans:
		codes = j.ofResources(d.byResource, f)
		class, looked = nil, d.texts // the codes are the classes
	case codes == nil:
		if class[0] != 0 {
			d.of[class[0]].add(f.all, f)
		}
		return
	default:
		codes = codes[f.first:f.high]
	}
	if j.isInTurn(len(looked), d.met, f) {
		words := j.scratch.Take(f.words)
		for _, text := range looked {
			trace.SetEqual(words, codes, text)
			words.Keep(f.all)
			if words.IsEmpty() {
				continue // what is not there costs nothing
			}
			if class != nil {
				text = class[text]
			}
			d.of[text].add(words, f)
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
			r := &d.of[c]
			if r.strip != f.stamp {
				r.strip, r.listed, r.rows = f.stamp, f.stamp, r.rows[:0]
			}
			r.rows = append(r.rows, i)
		}
	}
}

// isInTurn reports whether it is faster to look for each of n codes in turn in all rows of a frame than
// to look once at what each row has, of which so many were met that have one of them. Where they
// are often met, it is: nothing depends on what comes next.
func (j *Judge) isInTurn(n, met int, f *frame) bool {
	return n <= j.by.texts || n <= j.by.metTexts && met*j.by.often > int(f.high-f.low)
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
