package engine

import (
	"bytes"
	"fmt"
	"math/bits"
	"regexp"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"

	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace/columnar"
)

// textMatch is startsWith, endsWith, contains, matches or hasCardNumber.
type textMatch struct{ matcher *textMatcher }

func lowerTextMatch(l *lowering, e ast.Expr, call ast.CallExpr) *node {
	if !call.IsMemberFunction() {
		return nil
	}
	m := newTextMatcher(call.FunctionName(), l.x.Pattern(e), call.Args())
	if m == nil {
		return nil
	}
	return l.try(func() *node {
		of := l.lower(call.Target())
		if is[*unknown](of) {
			return nil
		}
		return newNode(&textMatch{m}, true, of)
	})
}

func (x *textMatch) name() string { return x.matcher.name }

func (*textMatch) required(n *node) []*node { return n.args }

func (x *textMatch) condition(c *compiler, n *node, v *binder) *predicate {
	operand := n.args[0]
	if f, ok := operand.is.(*field); ok && (f.of == "kind" || f.of == "status") {
		return nil
	}
	return c.leaf(operand, v, func(d domain, col *column) *predicate { return c.textMatches(d, col, x.matcher) })
}

func (x *textMatch) value(e *evaluation, n *node) value {
	switch v := e.value(n.args[0]); v.kind {
	case kindUnknown:
		return unknownValue
	case kindText:
		return boolValue(x.matcher.matches(v.s))
	}
	return boolValue(false)
}

// textMatcher matches strings, in most cases with a constant.
type textMatcher struct {
	function string
	with     []byte
	pattern  *regexp.Regexp
	// literals finds a literal that every string that matches pattern contains; nil if none is known.
	literals *literalFinder
	name     string
}

// newTextMatcher returns the matcher of a function with a constant, or without arguments; nil if there is none.
func newTextMatcher(function string, pattern *regexp.Regexp, with []ast.Expr) *textMatcher {
	if len(with) == 0 {
		return &textMatcher{function: function, name: function}
	}
	if with[0].Kind() != ast.LiteralKind {
		return nil
	}
	text, ok := with[0].AsLiteral().(types.String)
	if !ok || function == "matches" && pattern == nil {
		return nil
	}
	m := &textMatcher{function: function, with: []byte(text), pattern: pattern, name: fmt.Sprintf("%s %q", function, string(text))}
	if pattern != nil {
		m.literals = newLiteralFinder(requiredLiterals(pattern.String()))
	}
	return m
}

// newOrderMatch returns the matcher that compares the order of strings with a constant.
func newOrderMatch(op columnar.Comparison, with []byte) *textMatcher {
	function := comparisonNames[op]
	return &textMatcher{function: function, with: with, name: fmt.Sprintf("%s %q", function, string(with))}
}

func (m *textMatcher) matches(text []byte) bool {
	switch m.function {
	case "startsWith":
		return bytes.HasPrefix(text, m.with)
	case "endsWith":
		return bytes.HasSuffix(text, m.with)
	case "contains":
		return bytes.Contains(text, m.with)
	case lang.FunctionHasCardNumber:
		return lang.HasCardNumber(text)
	case "<":
		return bytes.Compare(text, m.with) < 0
	case "<=":
		return bytes.Compare(text, m.with) <= 0
	case ">":
		return bytes.Compare(text, m.with) > 0
	case ">=":
		return bytes.Compare(text, m.with) >= 0
	}
	return (m.literals == nil || m.literals.isIn(text)) && m.pattern.Match(text)
}

// textMatchCondition is true of rows whose string in a column matches. Each string is matched once, when a row with
// it is evaluated. A broad match, which is evaluated for many spans, is matched with all strings of the column
// together with the other broad matches of that column.
type textMatchCondition struct {
	column  *column
	matcher *textMatcher
	// group are the matches of a column of spans, and number is the place in it; nil for other columns.
	group  *matchGroup
	number int
}

// matchGroup are the predicates that match the strings of one column of spans.
type matchGroup struct {
	id      int
	column  *column
	matches []*predicate
}

func (c *compiler) textMatches(d domain, col *column, m *textMatcher) *predicate {
	return c.predicate(&textMatchCondition{column: col, matcher: m}, d)
}

// groupMatches finds the matches of each column.
func (p *Plan) groupMatches() {
	groups := map[*column]*matchGroup{}
	for _, pred := range p.predicates {
		x, ok := pred.is.(*textMatchCondition)
		if !ok || pred.domain != spans {
			continue
		}
		g := groups[x.column]
		if g == nil {
			g = &matchGroup{id: len(p.matches), column: x.column}
			groups[x.column] = g
			p.matches = append(p.matches, g)
		}
		x.group, x.number = g, len(g.matches)
		g.matches = append(g.matches, pred)
	}
}

func (x *textMatchCondition) name() string {
	return fmt.Sprintf("textMatch %v %s", x.column, x.matcher.name)
}

func (*textMatchCondition) traits() traits { return traits{cost: costTextMatch, slow: true} }

func (x *textMatchCondition) simplify(e *evaluation, _ *predicate, s *simplified) {
	s.never = e.columns[x.column.id].text == nil || e.isBroad(x) && !e.matches.groups[x.group.id].matched[x.number]
}

func (x *textMatchCondition) evaluate(e *evaluation, p *predicate, mask, t, _ columnar.Bits) {
	if e.isBroad(x) {
		all := e.broadRows(p, x)
		if all == nil {
			clear(t)
			return
		}
		for w, in := range mask {
			t[w] = in & all[w]
		}
		return
	}
	col, f := &e.columns[x.column.id], &e.frames[p.domain]
	e.noteIfBroad(x, mask, f)
	ofEmpty := uint8(1)
	if col.isField && x.matcher.matches(nil) {
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
	table := e.tableOf(p, col.text)
	table[0] = ofEmpty
	for w, in := range mask {
		var out uint64
		for rest := in; rest != 0; rest &= rest - 1 {
			k := bits.TrailingZeros64(rest)
			code := codes[int(f.first)+64*w+k]
			if table[code] == 0 {
				table[code] = 1 + uint8(bit(x.matcher.matches(col.text.Bytes(code))))
			}
			out |= uint64(table[code]>>1) << k
		}
		t[w] = out
	}
}

// matchState holds the results of matches with the strings of columns.
type matchState struct {
	tables []table      // by predicate
	groups []broadState // by match group
}

func newMatchState(p *Plan) matchState {
	s := matchState{tables: make([]table, len(p.predicates)), groups: make([]broadState, len(p.matches))}
	for i, g := range p.matches {
		n := len(g.matches)
		s.groups[i] = broadState{broad: make([]bool, n), included: make([]bool, n), matched: make([]bool, n)}
	}
	return s
}

// table holds the result of a predicate for the strings of a column by code: 0 if it is not computed yet, otherwise
// the truth plus one.
type table struct {
	stamp uint64
	of    []uint8
}

func (e *evaluation) tableOf(p *predicate, c *columnar.TextColumn) []uint8 {
	t := &e.matches.tables[p.id]
	if stamp := e.batchStamp(); t.stamp != stamp {
		t.stamp = stamp
		t.of = sized(t.of, c.NumTexts()+1)
		clear(t.of)
	}
	return t.of
}

// broadState holds which broad matches the strings of a column have.
type broadState struct {
	broad []bool // by number in the group, for all batches

	batch, strip uint64 // for which it was computed
	included     []bool // the matches that were broad then
	matched      []bool // the matches that a string has
	// class is an index into having, by code: the matches that the string has.
	class      []uint32
	having     [][]*predicate
	numClasses int
	sets       map[matchSet]uint32
	classes    map[uint32]uint32 // by set
}

// matchSet is a set of matches: 64 of them, and those before, by their number in broadState.sets.
type matchSet struct {
	before  uint32
	matches uint64
}

// noteIfBroad notes that a match is evaluated for many spans. It is broad from the next time that all strings of the
// column are matched, as long as the judge lives.
func (e *evaluation) noteIfBroad(x *textMatchCondition, mask columnar.Bits, f *frame) {
	if x.group == nil || e.matches.groups[x.group.id].broad[x.number] {
		return
	}
	if mask.Count() > int(f.high-f.low)/e.fewRows {
		e.matches.groups[x.group.id].broad[x.number] = true
	}
}

// isBroad reports whether all strings of the batch are matched. If the match is broad, that is done now, once a batch.
func (e *evaluation) isBroad(x *textMatchCondition) bool {
	if x.group == nil {
		return false
	}
	s := &e.matches.groups[x.group.id]
	if s.broad[x.number] && s.batch != e.batchStamp() {
		e.matchAll(x.group, s)
	}
	return s.included[x.number] && s.batch == e.batchStamp()
}

// matchAll matches all strings of the column.
func (e *evaluation) matchAll(g *matchGroup, s *broadState) {
	s.batch, s.strip = e.batchStamp(), 0
	copy(s.included, s.broad)
	clear(s.matched)
	if s.sets == nil {
		s.sets, s.classes = map[matchSet]uint32{}, map[uint32]uint32{}
	}
	clear(s.sets)
	clear(s.classes)
	s.numClasses = 0
	s.newClass()
	col := &e.columns[g.column.id]
	n := col.text.NumTexts() + 1
	s.class = sized(s.class, n)
	clear(s.class)
	for code := range uint32(n) {
		if code > 0 || col.isField {
			s.class[code] = s.classOf(g, col.text.Bytes(code))
		}
	}
}

// classOf matches a string.
func (s *broadState) classOf(g *matchGroup, text []byte) uint32 {
	matches := func(i int) bool {
		return s.included[i] && g.matches[i].is.(*textMatchCondition).matcher.matches(text)
	}
	set := uint32(0)
	for from := 0; from < len(g.matches); from += 64 {
		of := matchSet{before: set}
		for i := from; i < min(from+64, len(g.matches)); i++ {
			if matches(i) {
				of.matches |= 1 << (i - from)
				s.matched[i] = true
			}
		}
		if of == (matchSet{}) {
			continue
		}
		next, ok := s.sets[of]
		if !ok {
			next = uint32(len(s.sets) + 1)
			s.sets[of] = next
		}
		set = next
	}
	if set == 0 {
		return 0
	}
	class, ok := s.classes[set]
	if !ok {
		class = s.newClass()
		s.classes[set] = class
		for i, p := range g.matches {
			if matches(i) {
				s.having[class] = append(s.having[class], p)
			}
		}
	}
	return class
}

// newClass returns a class that no string has yet.
func (s *broadState) newClass() uint32 {
	if s.numClasses == len(s.having) {
		s.having = append(s.having, nil)
	}
	s.having[s.numClasses] = s.having[s.numClasses][:0]
	s.numClasses++
	return uint32(s.numClasses - 1)
}

// broadRows returns the spans of the strip whose string has a broad match, nil if none has.
func (e *evaluation) broadRows(p *predicate, x *textMatchCondition) columnar.Bits {
	s, f := &e.matches.groups[x.group.id], &e.frames[spans]
	if !s.matched[x.number] {
		return nil
	}
	if s.strip != f.stamp {
		s.strip = f.stamp
		e.findMatches(x.group, s, f)
	}
	if r := &e.results[p.id]; r.stamp == f.stamp {
		return r.t
	}
	return nil
}

// findMatches finds the spans whose strings have broad matches.
func (e *evaluation) findMatches(g *matchGroup, s *broadState, f *frame) {
	codes := e.columns[g.column.id].text.Codes
	if codes == nil { // all are empty
		for _, p := range s.having[s.class[0]] {
			e.marks(p, f).Add(f.all)
		}
		return
	}
	for row := f.low; row < f.high; row++ {
		for _, p := range s.having[s.class[codes[row]]] {
			e.marks(p, f).Set(row - f.first)
		}
	}
}
