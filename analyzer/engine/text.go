package engine

import (
	"fmt"
	"slices"

	"github.com/betracehq/betrace/trace/columnar"
)

// textIsCondition is true of rows whose string in a column is one of some. All of one column are evaluated
// together: once a batch the codes of the column become classes, and once a strip each row with a class sets a bit.
type textIsCondition struct {
	column  *column
	texts   []string // sorted
	group   *textGroup
	classes []uint32 // of texts, in group
}

// textGroup are the strings of one column that the predicates of one table compare with.
type textGroup struct {
	id      int
	column  *column
	domain  domain
	classes map[string]uint32 // by string, from 1
	lengths [64]bool          // of strings; the last is for longer ones
}

func (c *compiler) textCompared(d domain, col *column, op columnar.Comparison, with value) *predicate {
	switch op {
	case columnar.Equal:
		return c.textIs(d, col, string(with.s))
	case columnar.NotEqual:
		return c.join(false, d, c.isText(d, col), c.not(c.textIs(d, col, string(with.s))))
	}
	return c.textMatches(d, col, newOrderMatch(op, with.s))
}

func (c *compiler) textIs(d domain, col *column, texts ...string) *predicate {
	texts = slices.Clone(texts)
	slices.Sort(texts)
	return c.predicate(&textIsCondition{column: col, texts: slices.Compact(texts)}, d)
}

// uniteTexts unites the predicates of a disjunction that compare strings of one column.
func (c *compiler) uniteTexts(ps []*predicate) []*predicate {
	var out []*predicate
	for _, p := range ps {
		if x, ok := p.is.(*textIsCondition); ok {
			i := slices.IndexFunc(out, func(o *predicate) bool {
				y, ok := o.is.(*textIsCondition)
				return ok && y.column == x.column && o.domain == p.domain
			})
			if i >= 0 {
				out[i] = c.textIs(p.domain, x.column, slices.Concat(out[i].is.(*textIsCondition).texts, x.texts)...)
				continue
			}
		}
		out = append(out, p)
	}
	return out
}

// groupTexts finds the strings that are compared with each column.
func (p *Plan) groupTexts() {
	type key struct {
		column *column
		domain domain
	}
	groups := map[key]*textGroup{}
	for _, pred := range p.predicates {
		x, ok := pred.is.(*textIsCondition)
		if !ok {
			continue
		}
		k := key{x.column, pred.domain}
		g := groups[k]
		if g == nil {
			g = &textGroup{id: len(p.texts), column: x.column, domain: pred.domain, classes: map[string]uint32{}}
			groups[k] = g
			p.texts = append(p.texts, g)
		}
		for _, t := range x.texts {
			class, ok := g.classes[t]
			if !ok {
				class = uint32(len(g.classes) + 1)
				g.classes[t] = class
				g.lengths[min(len(t), len(g.lengths)-1)] = true
			}
			x.classes = append(x.classes, class)
		}
		x.group = g
	}
}

func (x *textIsCondition) name() string { return fmt.Sprintf("text %v %q", x.column, x.texts) }

func (*textIsCondition) traits() traits { return traits{cost: costTextIs, keep: true} }

func (x *textIsCondition) simplify(e *evaluation, _ *predicate, s *simplified) {
	of := &e.texts[x.group.id]
	if of.batch != e.batchStamp() {
		e.classify(x.group, of)
	}
	for _, class := range x.classes {
		if of.occurs[class] {
			return
		}
	}
	s.never = true
}

func (x *textIsCondition) isNeverInStrip(e *evaluation, _ *predicate) bool {
	of := e.textsOf(x.group)
	for _, class := range x.classes {
		if of.rows[class].strip == of.strip {
			return false
		}
	}
	return true
}

func (x *textIsCondition) evaluate(e *evaluation, p *predicate, mask, t, _ columnar.Bits) {
	all := x.rows(e, p)
	if all == nil {
		clear(t)
		return
	}
	for w, in := range mask {
		t[w] = in & all[w]
	}
}

// textState are the rows with the strings of a group.
type textState struct {
	batch, strip uint64 // for which it was computed
	// class is the class of each code, 0 for other strings.
	class []uint32
	// byResource is the class of each row of resources, for columns of resources that spans are compared by.
	byResource []uint32
	// occurs is set for classes of strings that the column has in this batch; some, if there is one.
	occurs []bool
	some   bool
	rows   []textRows // by class
}

// textRows are the rows of a strip that have a string.
type textRows struct {
	strip uint64 // in which there are some
	bits  columnar.Bits
}

func newTextStates(p *Plan) []textState {
	states := make([]textState, len(p.texts))
	for i, g := range p.texts {
		n := len(g.classes) + 1
		states[i] = textState{occurs: make([]bool, n), rows: make([]textRows, n)}
	}
	return states
}

// isOfResources reports whether spans are compared by the strings of their resources.
func (g *textGroup) isOfResources() bool { return g.column.domain == resources && g.domain == spans }

// classify finds the classes of the column's strings, once a batch.
func (e *evaluation) classify(g *textGroup, s *textState) {
	s.batch = e.batchStamp()
	clear(s.occurs)
	s.some = false
	col := &e.columns[g.column.id]
	if col.text == nil {
		return
	}
	n := col.text.NumTexts() + 1
	s.class = sized(s.class, n)
	note := func(class uint32) {
		if class != 0 {
			s.occurs[class], s.some = true, true
		}
	}
	s.class[0] = 0
	if col.isField {
		s.class[0] = g.classes[""]
		note(s.class[0])
	}
	for code := 1; code < n; code++ {
		text, class := col.text.Bytes(uint32(code)), uint32(0)
		if g.lengths[min(len(text), len(g.lengths)-1)] {
			class = g.classes[string(text)]
			note(class)
		}
		s.class[code] = class
	}
	if g.isOfResources() {
		s.byResource = sized(s.byResource, e.batch.Service().Rows())
		for row := range s.byResource {
			s.byResource[row] = s.class[codeOf(col.text, int32(row))]
		}
	}
}

// textsOf returns the rows with the strings of a group, in the current frame.
func (e *evaluation) textsOf(g *textGroup) *textState {
	s := &e.texts[g.id]
	if f := &e.frames[g.domain]; s.strip != f.stamp {
		s.strip = f.stamp
		if s.some {
			e.findTexts(g, s, f)
		}
	}
	return s
}

// findTexts finds the rows of all strings of the group.
func (e *evaluation) findTexts(g *textGroup, s *textState, f *frame) {
	codes := e.columns[g.column.id].text.Codes
	switch {
	case g.isOfResources():
		for i, resource := range e.batch.Resources[f.low:f.high] {
			if class := s.byResource[resource]; class != 0 {
				s.add(class, f, f.low-f.first+int32(i))
			}
		}
	case codes != nil:
		for i, code := range codes[f.low:f.high] {
			if class := s.class[code]; class != 0 {
				s.add(class, f, f.low-f.first+int32(i))
			}
		}
	case s.class[0] != 0: // all are empty
		r := &s.rows[s.class[0]]
		r.strip, r.bits = f.stamp, append(r.bits[:0], f.all...)
	}
}

func (s *textState) add(class uint32, f *frame, i int32) {
	r := &s.rows[class]
	if r.strip != f.stamp {
		r.strip, r.bits = f.stamp, r.bits.Resized(64*f.words)
		clear(r.bits)
	}
	r.bits.Set(i)
}

// rows returns the rows of the frame that have one of the strings, nil if there are none.
func (x *textIsCondition) rows(e *evaluation, p *predicate) columnar.Bits {
	s, f := e.textsOf(x.group), &e.frames[p.domain]
	of := func(class uint32) columnar.Bits {
		if r := &s.rows[class]; r.strip == f.stamp {
			return r.bits
		}
		return nil
	}
	if len(x.classes) == 1 {
		return of(x.classes[0])
	}
	r := &e.results[p.id]
	if r.stamp != f.stamp {
		for _, class := range x.classes {
			if bits := of(class); bits != nil {
				e.marks(p, f).Add(bits)
			}
		}
	}
	if r.stamp == f.stamp {
		return r.t
	}
	return nil
}
