package rulestest

import (
	"slices"
	"strconv"
	"strings"
)

// kind is the type of a variable.
type kind uint8

const (
	spanKind kind = iota
	spanList
	eventKind
	linkKind
	textKind
	intKind
	anyKind // an attribute's value, whose type is known only at run time
)

type variable struct {
	name string
	kind kind
}

// named returns the visible variables of a type. A variable is hidden by an inner one with the same name.
func (g *Generator) named(k kind) []string {
	var found, seen []string
	for _, v := range slices.Backward(g.vars) {
		if slices.Contains(seen, v.name) {
			continue
		}
		seen = append(seen, v.name)
		if v.kind == k {
			found = append(found, v.name)
		}
	}
	return found
}

// with calls do in the scope of a variable.
func (g *Generator) with(name string, k kind, do func()) {
	g.vars = append(g.vars, variable{name, k})
	do()
	g.vars = g.vars[:len(g.vars)-1]
}

// key returns a quoted key of attributes.
func (g *Generator) key() string {
	if g.one(12) {
		return strconv.Quote(pick(g, keys...))
	}
	return strconv.Quote(pick(g, keys[:idents]...))
}

func (g *Generator) literalText() string {
	if g.one(4) {
		return strconv.Quote(pick(g, texts...))
	}
	return strconv.Quote(pick(g, common...))
}

func (g *Generator) literalInt() string {
	if g.one(12) {
		return pick(g, extremeInts...)
	}
	return pick(g, ints...)
}

func (g *Generator) literalDouble() string {
	if g.one(8) {
		return pick(g, extremes...)
	}
	return pick(g, doubles...)
}

func (g *Generator) literalDuration() string { return `duration("` + pick(g, durations...) + `")` }

// literal returns a constant of a type that attributes can have.
func (g *Generator) literal() string {
	switch g.IntN(12) {
	case 0:
		return g.literalDouble()
	case 1:
		return pick(g, "true", "false")
	case 2:
		return pick(g, uints...)
	case 3, 4, 5:
		return g.literalInt()
	}
	return g.literalText()
}

func (g *Generator) comparison() string {
	return pick(g, " == ", " == ", " == ", " != ", " < ", " <= ", " > ", " >= ")
}

// condition returns a boolean expression. Without a variable in scope it often ranges over all spans.
func (g *Generator) condition(depth int) string {
	if len(g.vars) == 0 {
		if len(g.closed) > 0 && g.one(6) {
			return pick(g, g.closed...)
		}
		var c string
		if g.one(3) {
			c = g.truth(depth)
		} else {
			c = g.quantified(depth)
		}
		g.closed = append(g.closed, c)
		return c
	}
	return g.truth(depth)
}

func (g *Generator) truth(depth int) string {
	if g.plainly() {
		return g.plainTruth(depth)
	}
	if depth <= 0 {
		return g.atom()
	}
	d := depth - 1
	switch g.IntN(24) {
	case 0, 1, 2:
		return "(" + g.condition(d) + " && " + g.condition(d) + ")"
	case 3, 4, 5:
		return "(" + g.condition(d) + " || " + g.condition(d) + ")"
	case 6, 7:
		return "!(" + g.condition(d) + ")"
	case 8:
		return "(" + g.condition(d) + " ? " + g.condition(d) + " : " + g.condition(d) + ")"
	case 9:
		return "((" + g.condition(d) + ")" + pick(g, " == ", " != ", " < ") + "(" + g.condition(d) + "))"
	case 10, 11, 12, 13:
		return g.quantified(depth)
	case 14, 21:
		return g.compared(depth)
	case 15, 16:
		return g.counted(d) + g.comparison() + pick(g, "0", "1", "2", "2.0", g.number(0))
	case 17:
		return g.overAttributes(d)
	case 18:
		return g.bound(d)
	case 19:
		return g.sets(d)
	case 20:
		return "(" + g.condition(d) + " || " + g.compared(d) + ")"
	}
	return g.atom()
}

// quantified returns exists, all or exists_one over a list.
func (g *Generator) quantified(depth int) string {
	list, k := g.list(depth - 1)
	name := pick(g, variableName...)
	macro := pick(g, "exists", "exists", "exists", "all", "exists_one")
	if k == spanKind && g.one(15) && !g.plain { // with the index
		index := pick(g, "i", "x")
		if index == name {
			index = "i"
		}
		if macro == "exists_one" {
			macro = "existsOne"
		}
		return list + "." + macro + "(" + index + ", " + name + ", " + g.inLoop(index, intKind, func() string { return g.inLoop(name, k, func() string { return g.condition(depth - 1) }) }) + ")"
	}
	return list + "." + macro + "(" + name + ", " + g.inLoop(name, k, func() string { return g.condition(depth - 1) }) + ")"
}

func (g *Generator) inLoop(name string, k kind, make func() string) (made string) {
	g.loops++
	g.with(name, k, func() { made = make() })
	g.loops--
	return made
}

// list returns a list expression, and the type of its elements.
func (g *Generator) list(depth int) (string, kind) {
	if g.plainly() {
		return g.plainList(depth)
	}
	spans := g.named(spanKind)
	if len(g.vars) == 0 && !g.one(4) || g.one(3) {
		return "spans", spanKind
	}
	switch n := g.IntN(14); {
	case n < 4:
		return g.spans(depth), spanKind
	case n < 7 && len(spans) > 0:
		return g.span(depth) + ".events", eventKind
	case n < 8 && len(spans) > 0:
		return g.span(depth) + ".links", linkKind
	case n == 8:
		return pick(g, "trace.services", g.texts(depth)), textKind
	case n == 9:
		return g.value(0), anyKind
	case n == 10:
		return g.attributes(), textKind
	case n == 11:
		return "[" + g.literal() + ", " + g.value(0) + "]", anyKind
	case n == 12:
		return "[" + pick(g, ints...) + ", " + pick(g, ints...) + ", 1]", intKind
	}
	return g.spans(depth), spanKind
}

// spans returns a list of spans.
func (g *Generator) spans(depth int) string {
	if g.plainly() {
		return g.plainSpans(depth)
	}
	if g.loops >= 2 && g.one(2) || len(g.named(spanKind)) > 0 && !g.one(3) {
		s := g.span(0)
		list := s + pick(g, ".children", ".children", ".ancestors()", ".descendants()")
		if depth > 0 && g.one(5) {
			list += g.filter(depth - 1)
		}
		return list
	}
	if depth <= 0 {
		return pick(g, "spans", "spans", "spans", "trace.root.children", "trace.root.descendants()")
	}
	switch g.IntN(16) {
	case 0, 1, 2, 3, 4, 5:
		return g.spans(depth-1) + g.filter(depth-1)
	case 6:
		return "(" + g.condition(depth-1) + " ? " + g.spans(depth-1) + " : " + g.spans(depth-1) + ")"
	case 7:
		return "(" + g.spans(0) + " + " + g.spans(0) + ")"
	case 8:
		return g.spans(depth-1) + pick(g, ".reverse()", ".distinct()", ".slice(0, 1)")
	case 9:
		v := pick(g, variableName...)
		return g.spans(depth-1) + ".sortBy(" + v + ", " + pick(g, v+".name", v+".duration", v+".end", v+"["+g.key()+"]") + ")"
	case 10:
		v := pick(g, variableName...)
		return g.spans(depth-1) + ".map(" + v + ", " + pick(g, v+".parent", v, "trace.root") + ")"
	case 11:
		v, w := pick(g, "s", "t"), pick(g, "u", "x")
		return g.spans(depth-1) + ".map(" + v + ", " + g.inLoop(v, spanKind, func() string { return g.condition(0) }) + ", " + pick(g, v, v+".parent") + ")" + ".filter(" + w + ", true)"
	}
	if vs := g.named(spanList); len(vs) > 0 {
		return pick(g, vs...)
	}
	return "spans"
}

func (g *Generator) filter(depth int) string {
	v := pick(g, variableName...)
	return ".filter(" + v + ", " + g.inLoop(v, spanKind, func() string { return g.condition(depth) }) + ")"
}

// span returns a span, which may be absent.
func (g *Generator) span(depth int) string {
	if vs := g.named(spanKind); len(vs) > 0 && !g.one(12) {
		v := pick(g, vs...)
		if g.one(2) {
			v = vs[0]
		}
		for range 2 {
			if g.one(8) {
				v += ".parent"
			}
		}
		return v
	}
	if g.plainly() {
		return "trace.root"
	}
	switch g.IntN(12) {
	case 0:
		if !g.cautious {
			return g.spans(0) + "[" + pick(g, "0", "0", "1", "2", "dyn(0.0)") + "]"
		}
	case 1:
		return g.spans(0) + pick(g, ".first()", ".last()") + ".orValue(trace.root)"
	case 2:
		if depth > 0 {
			return "(" + g.condition(depth-1) + " ? " + g.span(depth-1) + " : " + g.span(depth-1) + ")"
		}
	case 3:
		return "trace.root.parent"
	}
	return "trace.root"
}

// attributes returns a map of attributes.
func (g *Generator) attributes() string {
	if vs := g.named(eventKind); len(vs) > 0 && g.one(2) {
		return pick(g, vs...) + ".attributes"
	}
	if vs := g.named(linkKind); len(vs) > 0 && g.one(2) {
		return pick(g, vs...) + ".attributes"
	}
	return g.span(0) + pick(g, ".attributes", ".attributes", ".resource")
}

// value returns an attribute's value, or an expression of the same type.
func (g *Generator) value(depth int) string {
	if g.plainly() {
		return g.plainValue(depth)
	}
	if depth > 0 {
		d := depth - 1
		switch g.IntN(14) {
		case 0, 1:
			return pick(g, "dyn("+g.calculated(d)+")", "("+g.value(d)+pick(g, " + ", " - ", " * ")+g.value(d)+")")
		case 2:
			if !g.cautious {
				return "(" + g.value(d) + pick(g, " / ", " % ") + pick(g, g.value(d), g.literalInt()) + ")"
			}
		case 3:
			return "(" + g.condition(d) + " ? " + g.value(d) + " : " + pick(g, g.value(d), "dyn("+g.literal()+")") + ")"
		case 4:
			return "-" + g.value(0)
		case 5:
			return pick(g, "dyn("+g.value(d)+" + "+g.literalText()+")", `dyn(`+g.number(d)+`)`, `dyn(`+g.text(d)+`)`)
		case 6:
			if !g.cautious {
				return g.value(0) + pick(g, "[0]", "[1]", `["a"]`, "["+g.value(0)+"]")
			}
			return g.value(0) + `[?0].orValue(` + g.literal() + ")"
		case 7:
			return "math." + pick(g, "greatest", "least") + "(" + g.value(d) + ", " + g.value(d) + ")"
		}
	}
	if vs := g.named(anyKind); len(vs) > 0 && g.one(2) {
		return pick(g, vs...)
	}
	switch g.IntN(20) {
	case 0:
		return g.attributes() + "[?" + g.key() + "].orValue(" + g.literal() + ")"
	case 1:
		return g.span(0) + "[?" + g.key() + "].orValue(" + g.literal() + ")"
	case 2:
		return g.attributes() + ".?" + pick(g, keys[:idents]...) + ".orValue(" + g.literal() + ")"
	case 3:
		return g.span(0) + "[" + g.text(0) + "]"
	case 4:
		return g.span(0) + "[?" + g.key() + "].or(" + g.span(0) + "[?" + g.key() + "]).orValue(" + g.literal() + ")"
	case 5, 6, 7:
		return g.attributes() + "." + pick(g, keys[:idents]...)
	case 8, 9, 10:
		return g.attributes() + "[" + g.key() + "]"
	case 11:
		return g.attributes() + "[" + g.text(0) + "]"
	}
	if vs := g.named(eventKind); len(vs) > 0 && g.one(2) {
		return g.attributes() + "[" + g.key() + "]"
	}
	return g.span(0) + "[" + g.key() + "]"
}

// calculated returns a number computed from an attribute's value.
func (g *Generator) calculated(depth int) string {
	return "(" + g.value(depth) + pick(g, " + ", " - ", " * ") + pick(g, g.value(depth), g.literalInt(), g.literalDouble(), g.number(depth), pick(g, uints...)) + ")"
}

// textField returns a string field of a span, an event or a link.
func (g *Generator) textField() string {
	if vs := g.named(eventKind); len(vs) > 0 && g.one(2) {
		return pick(g, vs...) + ".name"
	}
	if vs := g.named(linkKind); len(vs) > 0 && g.one(2) {
		return pick(g, vs...) + pick(g, ".spanId", ".traceId")
	}
	if vs := g.named(textKind); len(vs) > 0 && g.one(2) {
		return pick(g, vs...)
	}
	if g.one(20) {
		return "trace.id"
	}
	return g.span(0) + "." + pick(g, textFields[:8]...)
}

// text returns a string expression.
func (g *Generator) text(depth int) string {
	if depth > 0 {
		d := depth - 1
		switch g.IntN(16) {
		case 0:
			return "(" + g.text(d) + " + " + g.text(d) + ")"
		case 1:
			return "string(" + pick(g, g.value(d), g.value(d), g.number(d), g.duration(d), g.time(d)) + ")"
		case 2:
			return g.text(d) + pick(g, ".lowerAscii()", ".upperAscii()", ".trim()", ".reverse()")
		case 3:
			if !g.cautious {
				return g.text(d) + pick(g, ".substring(0, 1)", ".substring(1)", ".charAt(0)")
			}
		case 4:
			return g.text(d) + ".replace(" + g.literalText() + ", " + g.literalText() + ")"
		case 5:
			return g.texts(d) + ".join(" + pick(g, "", `","`) + ")"
		case 6:
			return "(" + g.condition(d) + " ? " + g.text(d) + " : " + g.text(d) + ")"
		case 7:
			return `"%s %s".format([` + g.text(d) + ", " + g.value(d) + "])"
		case 8:
			if !g.cautious {
				return g.text(d) + `.split(",")[` + pick(g, "0", "1") + "]"
			}
		case 9:
			return g.span(d) + pick(g, ".kind", ".status")
		case 10:
			return g.span(d) + `.?parent.name.orValue("none")`
		}
	}
	if g.one(3) {
		return g.literalText()
	}
	return g.textField()
}

// texts returns a list of strings.
func (g *Generator) texts(depth int) string {
	if depth > 0 {
		switch g.IntN(6) {
		case 0, 1, 2:
			v := pick(g, variableName...)
			return g.spans(depth-1) + ".map(" + v + ", " + g.inLoop(v, spanKind, func() string { return g.text(depth - 1) }) + ")" + pick(g, "", ".distinct()", ".sort()")
		case 3:
			return g.text(depth-1) + ".split(" + pick(g, `","`, `"a"`, `""`) + ")"
		case 4:
			return g.attributes() + ".map(" + "k, k)"
		}
	}
	return pick(g, "trace.services", "["+g.literalText()+", "+g.literalText()+"]", "["+g.text(0)+"]")
}

// number returns an int or a double.
func (g *Generator) number(depth int) string {
	if g.plainly() {
		return g.plainNumber(depth)
	}
	if depth > 0 {
		d := depth - 1
		switch g.IntN(16) {
		case 0, 1:
			return "(" + g.number(d) + pick(g, " + ", " - ", " * ") + g.number(d) + ")"
		case 2:
			if !g.cautious {
				return "(" + g.number(d) + " / " + g.number(d) + ")"
			}
			return "(" + g.number(d) + " / 2)"
		case 3, 4:
			return g.counted(d)
		case 5:
			return g.text(d) + pick(g, ".size()", ".size()", ".indexOf("+g.literalText()+")")
		case 6:
			if !g.cautious {
				return pick(g, "int(", "double(") + pick(g, g.value(d), g.value(d), g.text(d)) + ")"
			}
			return pick(g, "int(", "double(") + pick(g, ints...) + ")"
		case 7:
			return "(" + g.condition(d) + " ? " + pick(g, g.literalInt()+" : "+g.literalInt(), g.literalDouble()+" : "+g.literalDouble()) + ")"
		case 8:
			return "math." + pick(g, "greatest", "least") + "(" + pick(g, ints...) + ", " + g.counted(d) + ")"
		case 9:
			return g.duration(d) + pick(g, ".getMilliseconds()", ".getSeconds()")
		case 10:
			return g.time(d) + pick(g, ".getFullYear()", ".getSeconds()", ".getDayOfWeek()", ".getMilliseconds()")
		case 11:
			return pick(g, "math.abs(", "math.sign(") + g.number(d) + ")"
		case 12:
			return pick(g, "math.ceil(", "math.floor(", "math.trunc(") + g.literalDouble() + ")"
		case 13:
			return "math.bitAnd(" + g.counted(d) + ", 1)"
		}
	}
	if vs := g.named(intKind); len(vs) > 0 && g.one(2) {
		return pick(g, vs...)
	}
	return pick(g, g.literalInt(), g.literalInt(), g.literalDouble(), "spans.size()", "size("+g.textField()+")", g.span(0)+".children.size()", g.span(0)+".events.size()", g.span(0)+".ancestors().size()")
}

// counted returns the number of elements of a list that meet a condition.
func (g *Generator) counted(depth int) string {
	list, k := g.list(depth)
	v := pick(g, variableName...)
	body := g.inLoop(v, k, func() string { return g.condition(depth) })
	switch g.IntN(6) {
	case 0, 1, 2:
		return "count(" + list + ", " + v + ", " + body + ")"
	case 3, 4:
		return list + ".filter(" + v + ", " + body + ").size()"
	}
	if g.plain {
		return list + ".size()"
	}
	return pick(g, "size("+list+")", g.attributes()+".size()", list+".map("+v+", "+body+").filter(y, y).size()")
}

func (g *Generator) duration(depth int) string {
	if depth > 0 {
		switch g.IntN(6) {
		case 0:
			return "(" + g.time(depth-1) + " - " + g.time(depth-1) + ")"
		case 1:
			return "(" + g.duration(depth-1) + pick(g, " + ", " - ") + g.duration(depth-1) + ")"
		case 2:
			if !g.cautious && !g.plain {
				return "duration(" + pick(g, g.value(0), g.textField()) + ")"
			}
		}
	}
	return pick(g, g.literalDuration(), g.span(0)+".duration", g.span(0)+".duration", "trace.duration")
}

func (g *Generator) time(depth int) string {
	if depth > 0 {
		switch g.IntN(6) {
		case 0, 1:
			return "(" + g.time(depth-1) + pick(g, " + ", " - ") + g.duration(depth-1) + ")"
		case 2:
			if !g.cautious && !g.plain {
				return "timestamp(" + pick(g, g.value(0), g.textField()) + ")"
			}
		}
	}
	if vs := g.named(eventKind); len(vs) > 0 && g.one(2) {
		return pick(g, vs...) + ".time"
	}
	return pick(g, `timestamp("`+pick(g, times...)+`")`, g.span(0)+".start", g.span(0)+".end", g.span(0)+".start", "trace.start", "trace.end")
}

// compared returns a comparison of two values of one type.
func (g *Generator) compared(depth int) string {
	if g.plainly() {
		return g.plainCompared(depth)
	}
	op := g.comparison()
	equal := pick(g, " == ", " != ")
	switch g.IntN(12) {
	case 0:
		return g.text(depth) + op + g.text(depth)
	case 1, 2:
		return g.number(depth) + op + g.number(depth)
	case 3:
		return g.duration(depth) + op + g.duration(depth)
	case 4:
		return g.time(depth) + op + g.time(depth)
	case 5:
		return g.texts(depth) + equal + g.texts(depth)
	case 6:
		return g.attributes() + equal + pick(g, g.attributes(), "{"+g.key()+": "+g.literal()+"}")
	case 7:
		return g.spans(depth) + equal + g.spans(depth)
	case 8:
		return g.value(depth) + op + pick(g, g.number(depth), g.text(depth))
	case 9:
		return g.span(depth) + equal + g.span(depth)
	}
	return g.value(depth) + op + pick(g, g.value(depth), g.literal())
}

// overAttributes returns a comprehension with two variables over attributes.
func (g *Generator) overAttributes(depth int) string {
	k, v := pick(g, "k", "x", "s"), pick(g, "v", "y", "t")
	body := func(make func() string) string {
		return g.inLoop(k, textKind, func() string { return g.inLoop(v, anyKind, make) })
	}
	condition := func() string {
		if g.one(2) {
			return k + " == " + g.key() + " && " + v + g.comparison() + g.literal()
		}
		return g.condition(depth)
	}
	attributes := g.attributes()
	switch g.IntN(6) {
	case 0, 1, 2:
		return attributes + "." + pick(g, "exists", "exists", "all", "existsOne") + "(" + k + ", " + v + ", " + body(condition) + ")"
	case 3:
		return attributes + ".transformList(" + k + ", " + v + ", " + body(condition) + ", " + pick(g, k, v) + ").size()" + g.comparison() + pick(g, "0", "1", "2")
	case 4:
		return attributes + ".transformMap(" + k + ", " + v + ", " + body(func() string { return g.value(0) }) + ")" + pick(g, " == ", " != ") + attributes
	}
	return attributes + "." + pick(g, "exists", "all") + "(" + k + ", " + g.inLoop(k, textKind, func() string { return g.condition(depth) }) + ")"
}

// bound returns a condition in the scope of cel.bind.
func (g *Generator) bound(depth int) string {
	name := pick(g, variableName...)
	var value string
	k := pick(g, anyKind, intKind, spanKind, spanList, textKind)
	switch k {
	case anyKind:
		value = g.value(depth)
	case intKind:
		value = g.counted(depth)
	case spanKind:
		value = g.span(depth)
	case spanList:
		value = g.spans(depth)
	case textKind:
		value = g.text(depth)
	}
	var body string
	g.with(name, k, func() { body = g.condition(depth) })
	return "cel.bind(" + name + ", " + value + ", " + body + ")"
}

func (g *Generator) sets(depth int) string {
	function := "sets." + pick(g, "contains", "intersects", "equivalent")
	if g.one(3) {
		return function + "([" + g.value(depth) + ", " + g.value(0) + "], [" + g.literal() + ", " + g.value(0) + "])"
	}
	return function + "(" + g.texts(depth) + ", " + g.texts(depth) + ")"
}

// atom returns a condition on one or two fields.
func (g *Generator) atom() string {
	if g.plainly() {
		return g.plainAtom()
	}
	s := g.span(0)
	switch g.IntN(36) {
	case 0, 1, 2:
		return g.textField() + g.comparison() + g.literalText()
	case 3:
		return s + ".kind" + pick(g, " == ", " != ") + strconv.Quote(pick(g, kinds...))
	case 4:
		return s + ".status" + pick(g, " == ", " != ") + strconv.Quote(pick(g, statuses...))
	case 5:
		return s + pick(g, `.kind in ["client", "server"]`, `.status in ["ok", "unset"]`, `.kind < "d"`, `.status > "f"`, `.kind.startsWith("c")`)
	case 6:
		return s + ".duration" + g.comparison() + g.literalDuration()
	case 7:
		return g.value(0) + " in [" + strings.Join([]string{g.literal(), g.literal(), g.literal()}[:1+g.IntN(3)], ", ") + "]"
	case 8:
		return g.textField() + " in " + pick(g, "["+g.literalText()+", "+g.literalText()+"]", "trace.services", g.value(0), g.texts(0))
	case 9:
		return pick(g, g.key(), g.text(0)) + " in " + g.attributes()
	case 10:
		return "has(" + pick(g, g.attributes()+"."+pick(g, keys[:idents]...), s+".parent", s+".parent.parent", "trace.root", s+".name") + ")"
	case 11, 12:
		return pick(g, g.value(0), g.textField()) + pick(g, ".startsWith(", ".endsWith(", ".contains(") + pick(g, g.literalText(), g.literalText(), g.value(0), g.text(0)) + ")"
	case 13:
		return pick(g, g.value(0), g.textField()) + pick(g, `.matches("`+pick(g, patterns...)+`")`, `.matches("`+pick(g, patterns...)+`")`, ".hasCardNumber()")
	case 14:
		if !g.cautious {
			return pick(g, g.value(0), g.textField()) + ".matches(" + pick(g, g.value(0), g.textField()) + ")"
		}
	case 15:
		return s + ".before(" + g.span(0) + ")"
	case 16:
		return g.time(0) + g.comparison() + g.time(0)
	case 17:
		return g.duration(1) + g.comparison() + g.literalDuration()
	case 18:
		return "size(" + pick(g, g.value(0), g.attributes(), s+".children", s+".events", s+".links", g.textField(), "trace.services") + ")" + g.comparison() + pick(g, "0", "1", "2")
	case 19:
		return "type(" + g.value(0) + ") == " + pick(g, "int", "double", "string", "bool", "list", "map", "bytes")
	case 20:
		return g.value(0)
	case 21:
		return s + pick(g, " == ", " != ") + pick(g, g.span(0), s+".parent")
	case 22:
		return s + pick(g, " in ", " in ") + g.spans(0)
	case 23:
		return g.value(0) + " in " + pick(g, g.value(0), "{"+g.literalText()+": 1, "+g.literalInt()+": 2}")
	case 24:
		return g.value(0) + ".lowerAscii() == " + g.literalText()
	case 25:
		if !g.cautious {
			return pick(g, "int(", "double(") + g.value(0) + ")" + g.comparison() + pick(g, g.literalInt(), g.literalDouble())
		}
	case 26:
		return s + "[?" + g.key() + "].hasValue()"
	case 27:
		return "string(" + g.value(0) + ") == " + g.literalText()
	case 28:
		return "math." + pick(g, "isNaN", "isInf") + "(" + g.value(0) + ")"
	case 29:
		if g.one(4) {
			return "(" + g.value(0) + " + " + g.literalText() + ")" + g.comparison() + g.textField()
		}
		return g.calculated(0) + g.comparison() + pick(g, g.literalInt(), g.literalDouble())
	case 30, 31:
		return g.value(0) + g.comparison() + g.value(0)
	}
	return g.value(0) + g.comparison() + g.literal()
}
