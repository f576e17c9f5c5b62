package rulestest

import "strconv"

// plainly reports whether the next expression uses the constructs of practical rules: comparisons of
// fields and attributes with constants and with each other, quantifiers over spans, their relatives,
// events and links, counts, order in time, and some arithmetic. Faster methods of judging support more of
// these.
func (g *Generator) plainly() bool { return g.plain && !g.one(25) }

func (g *Generator) plainTruth(depth int) string {
	if depth <= 0 {
		return g.plainAtom()
	}
	d := depth - 1
	switch g.IntN(20) {
	case 0, 1, 2, 3:
		return "(" + g.condition(d) + " && " + g.condition(d) + ")"
	case 4, 5, 6:
		return "(" + g.condition(d) + " || " + g.condition(d) + ")"
	case 7, 8:
		return "!(" + g.condition(d) + ")"
	case 9:
		return "(" + g.condition(d) + " ? " + g.condition(d) + " : " + g.condition(d) + ")"
	case 10:
		return "((" + g.condition(d) + ")" + pick(g, " == ", " != ") + "(" + g.condition(d) + "))"
	case 11, 12, 13, 14, 15:
		return g.quantified(depth)
	case 16, 17:
		return g.counted(d) + g.comparison() + pick(g, "0", "1", "2", "1.5", "-1", g.number(d))
	case 18:
		return g.compared(depth)
	}
	return g.plainAtom()
}

func (g *Generator) plainList(depth int) (string, kind) {
	if spans := g.named(spanKind); len(spans) > 0 {
		switch g.IntN(5) {
		case 0:
			return g.span(0) + ".events", eventKind
		case 1:
			if g.one(2) {
				return g.span(0) + ".links", linkKind
			}
		}
	}
	return g.spans(depth), spanKind
}

func (g *Generator) plainSpans(depth int) string {
	list := "spans"
	if len(g.named(spanKind)) > 0 && !g.one(4) || g.one(8) {
		list = g.span(0) + pick(g, ".children", ".ancestors()", ".descendants()")
	}
	if depth > 0 && g.one(4) {
		list += g.filter(depth - 1)
	}
	return list
}

func (g *Generator) plainValue(depth int) string {
	if depth > 0 && g.one(3) {
		d := depth - 1
		op := pick(g, " + ", " - ", " * ")
		if !g.cautious && g.one(3) {
			op = pick(g, " / ", " % ")
		}
		return pick(g, "("+g.value(d)+op+g.value(d)+")", "("+g.value(d)+op+g.literalInt()+")", "("+g.condition(d)+" ? "+g.value(d)+" : "+g.value(d)+")", "-"+g.value(0))
	}
	if g.one(3) {
		return g.attributes() + pick(g, "["+g.key()+"]", "."+pick(g, keys[:idents]...))
	}
	return g.span(0) + "[" + g.key() + "]"
}

func (g *Generator) plainNumber(depth int) string {
	if depth > 0 {
		d := depth - 1
		op := pick(g, " + ", " - ", " * ")
		if !g.cautious && g.one(4) {
			op = " / "
		}
		switch g.IntN(4) {
		case 0:
			return "(" + g.number(d) + op + g.number(d) + ")"
		case 1, 2:
			return g.counted(d)
		}
	}
	return pick(g, g.literalInt(), g.literalDouble(), "spans.size()", g.span(0)+pick(g, ".children", ".events", ".links", ".ancestors()", ".descendants()")+".size()")
}

func (g *Generator) plainCompared(depth int) string {
	op := g.comparison()
	switch g.IntN(8) {
	case 0, 1:
		return g.number(depth) + op + g.number(depth)
	case 2:
		return g.time(0) + op + g.time(depth)
	case 3:
		return g.duration(depth) + op + g.duration(0)
	case 4:
		return g.value(depth) + op + g.number(depth)
	}
	return g.value(depth) + op + pick(g, g.value(depth), g.literal())
}

func (g *Generator) plainAtom() string {
	s := g.span(0)
	switch g.IntN(28) {
	case 0, 1, 2:
		return g.textField() + g.comparison() + pick(g, g.literalText(), g.literalText(), g.textField(), g.value(0))
	case 3:
		return s + ".kind" + pick(g, " == ", " != ", " < ") + strconv.Quote(pick(g, kinds...))
	case 4:
		return s + ".status" + pick(g, " == ", " != ") + strconv.Quote(pick(g, statuses...))
	case 5:
		return s + pick(g, `.kind in ["client", "server"]`, `.status in ["ok", "unset"]`, ".kind == "+g.span(0)+".kind")
	case 6:
		return g.duration(0) + g.comparison() + g.literalDuration()
	case 7:
		return g.value(0) + " in [" + pick(g, g.literal(), g.literal()+", "+g.literal(), g.literal()+", "+g.literal()+", "+g.literal()) + "]"
	case 8:
		return g.textField() + " in [" + g.literalText() + ", " + g.literalText() + "]"
	case 9:
		return g.key() + " in " + g.attributes()
	case 10:
		return "has(" + pick(g, g.attributes()+"."+pick(g, keys[:idents]...), s+".parent", "trace.root", s+".parent.parent") + ")"
	case 11:
		return pick(g, g.value(0), g.textField()) + pick(g, ".startsWith(", ".endsWith(", ".contains(") + g.literalText() + ")"
	case 12:
		return pick(g, g.value(0), g.textField()) + pick(g, `.matches("`+pick(g, patterns...)+`")`, `.matches("`+pick(g, patterns...)+`")`, ".hasCardNumber()")
	case 13:
		return s + ".before(" + g.span(0) + ")"
	case 14:
		return g.time(0) + g.comparison() + g.time(0)
	case 15:
		return "(" + g.time(0) + " - " + g.time(0) + ")" + g.comparison() + g.literalDuration()
	case 16:
		return g.value(0)
	case 17:
		return s + pick(g, " == ", " != ") + pick(g, g.span(0), s+".parent")
	case 18:
		return g.literalText() + " in " + pick(g, "trace.services", g.value(0))
	case 19, 20:
		return g.value(0) + g.comparison() + g.value(0)
	case 21: // on one value
		return pick(g, "size("+g.value(0)+")"+g.comparison()+pick(g, "0", "1", "2"), g.value(0)+".lowerAscii() == "+g.literalText(), "type("+g.value(0)+") == int", "string("+g.value(0)+") == "+g.literalText(),
			g.value(0)+".exists(v, v == "+g.literalText()+")")
	case 22, 23:
		if !g.cautious {
			return pick(g, "int("+g.value(0)+")", "double("+g.value(0)+")", "("+g.value(0)+" / "+g.value(0)+")", "("+g.literalInt()+" / "+g.counted(0)+")", g.value(0)+"[0]") + g.comparison() + g.literalInt()
		}
	}
	return g.value(0) + g.comparison() + g.literal()
}
