package engine

import (
	"math/bits"

	"github.com/betracehq/betrace/trace/columnar"
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

	batch, strip uint64 // when it was worked out
	told         []bool // which tests it tells of: those that were broad then
	passed       []bool // by test: a text passes it
	// class is by code an index into passing: the tests that the text passes.
	class      []uint32
	passing    [][]*predicate
	numClasses int
	sets       map[testSet]uint32
	classes    map[uint32]uint32 // by set
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

// isTold reports whether it is known of all texts of the batch which pass a test. If the test is
// broad, that is worked out now, once a batch.
func (j *Judge) isTold(p *predicate) bool {
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

// broaden notes that a test is asked about many spans: it is broad from when the column's texts are
// tested next, for as long as the judge lives.
func (j *Judge) broaden(p *predicate, mask columnar.Bits, f *frame) {
	if p.tests != nil && !j.tests[p.tests.id].broad[p.test] && mask.Count() > int(f.high-f.low)/j.by.fewRows {
		j.tests[p.tests.id].broad[p.test] = true
	}
}

// passesNone reports whether no text of the batch passes a test.
func (j *Judge) passesNone(p *predicate) bool {
	return j.isTold(p) && !j.tests[p.tests.id].passed[p.test]
}

// tell tests all texts of the column.
func (j *Judge) tell(g *testGroup, d *testData) {
	d.batch, d.strip = j.frame[events].stamp, 0
	copy(d.told, d.broad)
	clear(d.passed)
	if d.sets == nil {
		d.sets, d.classes = map[testSet]uint32{}, map[uint32]uint32{}
	}
	clear(d.sets)
	clear(d.classes)
	d.numClasses = 0
	d.newClass()
	col := &j.columns[g.column]
	n := col.text.NumTexts() + 1
	d.class = sized(d.class, n)
	clear(d.class)
	for code := range uint32(n) {
		if code > 0 || col.isField {
			d.class[code] = j.classOf(g, d, col.text.Bytes(code))
		}
	}
}

// testSet is a set of tests: 64 of them, and those before, by their number in testData.sets.
type testSet struct {
	before uint32
	tests  uint64
}

// classOf tests a text.
func (j *Judge) classOf(g *testGroup, d *testData, text []byte) uint32 {
	set := uint32(0)
	for from := 0; from < len(g.tests); from += 64 {
		s := testSet{before: set}
		for i, p := range g.tests[from:min(from+64, len(g.tests))] {
			if d.told[from+i] && p.text.holdsText(text) {
				s.tests |= 1 << i
				d.passed[from+i] = true
			}
		}
		if s == (testSet{}) {
			continue
		}
		next, ok := d.sets[s]
		if !ok {
			next = uint32(len(d.sets) + 1)
			d.sets[s] = next
		}
		set = next
	}
	if set == 0 {
		return 0
	}
	class, ok := d.classes[set]
	if !ok {
		class = d.newClass()
		d.classes[set] = class
		for i, p := range g.tests {
			if d.told[i] && p.text.holdsText(text) {
				d.passing[class] = append(d.passing[class], p)
			}
		}
	}
	return class
}

// newClass returns a class that no text has yet. Memory is used again.
func (d *testData) newClass() uint32 {
	if d.numClasses == len(d.passing) {
		d.passing = append(d.passing, nil)
	}
	d.passing[d.numClasses] = d.passing[d.numClasses][:0]
	d.numClasses++
	return uint32(d.numClasses - 1)
}

// passed returns the spans of the strip whose text passes a broad test, nil if none does.
func (j *Judge) passed(p *predicate) columnar.Bits {
	d, f := &j.tests[p.tests.id], &j.frame[spans]
	if !d.passed[p.test] {
		return nil
	}
	if d.strip != f.stamp {
		d.strip = f.stamp
		j.findPassing(p.tests, d, f)
	}
	if m := &j.memos[p.id]; m.stamp == f.stamp {
		return m.t
	}
	return nil
}

// findPassing finds the spans whose texts pass tests that it is told of.
func (j *Judge) findPassing(g *testGroup, d *testData, f *frame) {
	codes := j.columns[g.column].text.Codes
	if codes == nil { // all are empty
		for _, q := range d.passing[d.class[0]] {
			j.marks(q, f).Add(f.all)
		}
		return
	}
	for i := f.low - f.first; i < f.high-f.first; i++ {
		if c := d.class[codes[f.first+i]]; c != 0 {
			j.mark(d.passing[c], f, int(i>>6), 1<<(i&63))
		}
	}
}

// tested returns 2 if a text passes a test, 1 if it does not, and keeps that in the table.
func (p *predicate) tested(table []uint8, c *columnar.TextColumn, code uint32) uint8 {
	if table[code] == 0 {
		table[code] = 1 + uint8(bit(p.text.holdsText(c.Bytes(code))))
	}
	return table[code]
}

// textTests tests texts: each once, where it is asked for, or all of the column.
func (j *Judge) textTests(p *predicate, f *frame, mask, t columnar.Bits) {
	col := &j.columns[p.column]
	if j.isTold(p) {
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
			out |= uint64(p.tested(table, col.text, code)>>1) << k
		}
		t[w] = out
	}
}

// bit is 1 for true.
func bit(is bool) (b uint64) {
	if is {
		b = 1
	}
	return b
}
