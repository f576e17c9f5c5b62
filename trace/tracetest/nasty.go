package tracetest

import "strconv"

// Nasty is a difficulty: data that OTLP allows and real systems send, and that software which reads traces
// tends to handle wrongly.
//
// Difficulties never change the violations of a trace unnoticed: they are in parts of the trace that no rule
// reads, or are a [Behaviour] with a known verdict.
type Nasty uint8

// The difficulties. A trace that is too small for one does not have it: with one span alone there is no
// orphan. A trace of 12 spans or more has room for each.
const (
	nothing Nasty = iota

	// MissingAttributes: spans lack attributes that others of their name have.
	MissingAttributes
	// NoServiceName: a resource has no service.name.
	NoServiceName
	// AbsentValues: attributes have a key and a value without a type.
	AbsentValues
	// MixedTypes: one key has ints, doubles, strings and booleans.
	MixedTypes
	// Lists: attributes are lists of values of one type.
	Lists
	// EmptyLists: attributes are lists without elements.
	EmptyLists
	// MixedLists: attributes are lists whose elements have several types, lists among them.
	MixedLists
	// EmptyStrings: attributes are "".
	EmptyStrings
	// Bytes: attributes are bytes that are not UTF-8.
	Bytes
	// Maps: attributes are maps, nested and empty ones among them.
	Maps
	// Unicode: keys, values and names have characters beyond ASCII, quotes, backslashes, line breaks,
	// combining marks and right-to-left text.
	Unicode
	// LongValues: attributes are strings of 3 to 40 KiB.
	LongValues
	// ExtremeNumbers: attributes are ints that no double can represent, the least and the greatest int, NaN,
	// infinities, -0, denormal doubles.
	ExtremeNumbers
	// Orphans: spans name a parent that is not in the trace.
	Orphans
	// ExtraRoots: further spans have no parent.
	ExtraRoots
	// Cycles: spans are their own ancestors or their own parents.
	Cycles
	// SharedIDs: a client and its server share a span ID, as in Zipkin.
	SharedIDs
	// SharedByOthers: two spans that are not a client and its server share a span ID.
	SharedByOthers
	// Deep: the trace has a chain of up to 200 spans, each the child of the previous one.
	Deep
	// Wide: a span has up to 2,000 children.
	Wide
	// ManyEvents: spans have up to 30 events, out of order, some outside the time of the span.
	ManyEvents
	// ManyLinks: spans have up to 30 links, to other traces and to their own.
	ManyLinks
	// Late: spans are sent in a later batch.
	Late
	// EqualCopies: spans are sent twice.
	EqualCopies
	// UnequalCopies: spans are sent twice, with differences.
	UnequalCopies
	// ClockSkew: the clock of a service is fast or slow.
	ClockSkew
	// EndBeforeStart: spans end before they start.
	EndBeforeStart
	// LeadingZeros: trace IDs and span IDs begin with zero bytes.
	LeadingZeros

	nastyEnd
)

// Rates are the shares of traces, from 0 to 1, that have each difficulty:
//
//	Rates{Orphans: 0.1, Cycles: 0.01}
type Rates [nastyEnd]float64

var nastyNames = [nastyEnd]string{
	nothing: "nothing", MissingAttributes: "missing-attributes", NoServiceName: "no-service-name",
	AbsentValues: "absent-values", MixedTypes: "mixed-types", Lists: "lists", EmptyLists: "empty-lists",
	MixedLists: "mixed-lists", EmptyStrings: "empty-strings", Bytes: "bytes", Maps: "maps", Unicode: "unicode",
	LongValues: "long-values", ExtremeNumbers: "extreme-numbers", Orphans: "orphans", ExtraRoots: "extra-roots",
	Cycles: "cycles", SharedIDs: "shared-ids", SharedByOthers: "shared-by-others", Deep: "deep", Wide: "wide",
	ManyEvents: "many-events", ManyLinks: "many-links", Late: "late", EqualCopies: "equal-copies",
	UnequalCopies: "unequal-copies", ClockSkew: "clock-skew", EndBeforeStart: "end-before-start",
	LeadingZeros: "leading-zeros",
}

// String returns the name in lower case with hyphens.
func (n Nasty) String() string {
	if n >= nastyEnd {
		return "nasty(" + strconv.Itoa(int(n)) + ")"
	}
	return nastyNames[n]
}

// AllNasty returns all difficulties.
func AllNasty() []Nasty {
	all := make([]Nasty, 0, nastyEnd-1)
	for n := nothing + 1; n < nastyEnd; n++ {
		all = append(all, n)
	}
	return all
}

// nastySet is a bit set of Nasty.
type nastySet uint64

func (s nastySet) has(n Nasty) bool { return s&(1<<n) != 0 }

func (s *nastySet) add(n Nasty) { *s |= 1 << n }

func (s nastySet) list() []Nasty {
	var list []Nasty
	for _, n := range AllNasty() {
		if s.has(n) {
			list = append(list, n)
		}
	}
	return list
}
