package plan

import (
	"math/bits"

	"github.com/betracehq/betrace/analyzer/trace"
)

// testGroup are the predicates that test the texts of one column of spans.
type testGroup struct {
	id     int
	column int
	tests  []*predicate
}

// testData says of the texts of a column which tests they pass. Only tests are told of that are
// asked about many spans: of others it is quicker to test the texts that they meet.
type testData struct {
	broad []bool // by number in the group; it stays from batch to batch
	numOf int    // how many are broad

	batch, strip uint64 // when it was worked out
	told         []bool // which tests it tells of: those that were broad then
	passed       []bool // by test: a text passes it
	// class is by code an index into passing: the tests that the text passes.
	class   []uint32
	passing [][]*predicate
}

// groupTests finds the columns that are tested.
func (p *Plan) groupTests() {
	of := map[int]*testGroup{}
	for _, pred := range p.predicates {
		if pred.kind != predTextTest || pred.domain != spans {
			continue
		}
		g := of[pred.column]
		if g == nil {
			g = &testGroup{id: len(p.tests), column: pred.column}
			of[pred.column] = g
			p.tests = append(p.tests, g)
		}
		pred.tests, pred.test = g, len(g.tests)
		g.tests = append(g.tests, pred)
	}
}

// isBroad reports whether what texts pass a test is worked out once a batch.
func (j *Judge) isBroad(p *predicate) bool {
	if p.tests == nil {
		return false
	}
	d := &j.tests[p.tests.id]
	if d.broad == nil {
		n := len(p.tests.tests)
		d.broad, d.told, d.passed = make([]bool, n), make([]bool, n), make([]bool, n)
	}
	if d.broad[p.test] && d.batch != j.frame[events].stamp {
		j.tell(p.tests, d)
	}
	return d.told[p.test] && d.batch == j.frame[events].stamp
}

// broaden notes that a test is asked about many spans: from the next batch on it is broad.
func (j *Judge) broaden(p *predicate, mask trace.Bits, f *frame) {
	if p.tests != nil && !j.tests[p.tests.id].broad[p.test] && mask.Count() > int(f.high-f.low)/fewRows {
		j.tests[p.tests.id].broad[p.test] = true
	}
}

// passesNone reports whether no text of the batch passes a test.
func (j *Judge) passesNone(p *predicate) bool {
	return j.isBroad(p) && !j.tests[p.tests.id].passed[p.test]
}

// tell tests all texts of the column.
func (j *Judge) tell(g *testGroup, d *testData) {
	d.batch, d.strip = j.frame[events].stamp, 0
	copy(d.told, d.broad)
	clear(d.passed)
	d.passing = append(d.passing[:0], nil)
	col := &j.columns[g.column]
	if col.text == nil {
		return
	}
	n := col.text.NumTexts() + 1
	d.class = sized(d.class, n)
	clear(d.class)
	classes := map[string]uint32{}
	set := make([]byte, 0, len(g.tests)/8+1)
	for code := range uint32(n) {
		if code == 0 && !col.isField {
			continue
		}
		text := col.text.Bytes(code)
		set = set[:0]
		some := false
		for i, p := range g.tests {
			if i&7 == 0 {
				set = append(set, 0)
			}
			if d.told[i] && p.text.holdsText(text) {
				set[i>>3] |= 1 << (i & 7)
				d.passed[i], some = true, true
			}
		}
		if !some {
			continue
		}
		class, ok := classes[string(set)]
		if !ok {
			class = uint32(len(d.passing))
			classes[string(set)] = class
			var passing []*predicate
			for i, p := range g.tests {
				if set[i>>3]>>(i&7)&1 != 0 {
					passing = append(passing, p)
				}
			}
			d.passing = append(d.passing, passing)
		}
		d.class[code] = class
	}
}

// passed returns the spans of the strip whose text passes a broad test, nil if none does.
func (j *Judge) passed(p *predicate) trace.Bits {
	d, f := &j.tests[p.tests.id], &j.frame[spans]
	if !d.passed[p.test] {
		return nil
	}
	if d.strip != f.stamp {
		d.strip = f.stamp
		codes := j.columns[p.tests.column].text.Codes
		for w, in := range f.all {
			if codes == nil { // all are empty
				for _, q := range d.passing[d.class[0]] {
					j.marks(q, f)[w] = in
				}
				continue
			}
			first := int(f.first) + 64*w
			for k, code := range codes[first:min(first+64, len(codes))] {
				if c := d.class[code]; c != 0 && in>>(k&63)&1 != 0 {
					j.mark(d.passing[c], f, w, 1<<(k&63))
				}
			}
		}
	}
	if m := &j.memos[p.id]; m.stamp == f.stamp {
		return m.t
	}
	return nil
}

// textTests tests texts: each once, where it is asked for, or all of the column.
func (j *Judge) textTests(p *predicate, f *frame, mask, t trace.Bits) {
	col := &j.columns[p.column]
	if col.text == nil {
		clear(t)
		return
	}
	if j.isBroad(p) {
		all := j.passed(p)
		if all == nil {
			clear(t)
			return
		}
		for w, in := range mask {
			t[w] = in & all[w]
		}
		return
	}
	j.broaden(p, mask, f)
	ofEmpty := uint8(1)
	if col.isField && p.text.holdsText(nil) {
		ofEmpty = 2
	}
	codes := col.text.Codes
	if codes == nil {
		if ofEmpty == 2 {
			copy(t, mask)
		} else {
			clear(t)
		}
		return
	}
	table := j.tableOf(p, col.text)
	table[0] = ofEmpty
	for w, in := range mask {
		var out uint64
		for rest := in; rest != 0; rest &= rest - 1 {
			k := bits.TrailingZeros64(rest)
			code := codes[int(f.first)+64*w+k]
			known := table[code]
			if known == 0 {
				known = 1
				if p.text.holdsText(col.text.Bytes(code)) {
					known = 2
				}
				table[code] = known
			}
			out |= uint64(known>>1) << k
		}
		t[w] = out
	}
}
