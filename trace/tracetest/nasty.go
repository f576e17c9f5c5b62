package tracetest

import "strconv"

// Nasty is one kind of what hurts: something that OTLP allows, that real systems
// send, and that software which reads traces tends to get wrong.
//
// What is nasty about a trace never changes which rules it violates unnoticed: it
// is put where no rule looks, or it is a [Behaviour] of its own, whose verdict is
// known.
type Nasty uint8

// The kinds of what hurts. A trace that is too small for one goes without: one
// span alone has no orphan beside it. With 12 spans or more a trace has room for
// each.
const (
	nothing Nasty = iota

	// MissingAttributes: spans lack attributes that others of their name have.
	MissingAttributes
	// NoServiceName: a resource without service.name.
	NoServiceName
	// AbsentValues: attributes that have a key and a value without a type.
	AbsentValues
	// MixedTypes: one key has ints, doubles, texts and truth values.
	MixedTypes
	// Lists: attributes that are lists of values of one type.
	Lists
	// EmptyLists: attributes that are lists without elements.
	EmptyLists
	// MixedLists: lists whose elements have several types, lists among them.
	MixedLists
	// EmptyStrings: attributes that are "".
	EmptyStrings
	// Bytes: attributes of bytes, which are not UTF-8.
	Bytes
	// Maps: attributes that are maps, nested and empty ones.
	Maps
	// Unicode: keys, values and names beyond ASCII, with quotes, backslashes, line
	// breaks, combining marks and right-to-left text.
	Unicode
	// LongValues: texts of 3 to 40 KiB.
	LongValues
	// ExtremeNumbers: ints that no double can represent, the least and the
	// greatest int, NaN, infinities, -0, denormal doubles.
	ExtremeNumbers
	// Orphans: spans whose parent is not in the trace.
	Orphans
	// ExtraRoots: further spans without a parent.
	ExtraRoots
	// Cycles: spans that are their own ancestors, or their own parents.
	Cycles
	// SharedIDs: a client and its server have one span ID, Zipkin's way.
	SharedIDs
	// SharedByOthers: two spans that are not client and server have one span ID.
	SharedByOthers
	// Deep: a chain of up to 200 spans, each the child of the one before.
	Deep
	// Wide: a span with up to 2,000 children.
	Wide
	// ManyEvents: spans with up to 30 events, out of order, some outside the span.
	ManyEvents
	// ManyLinks: spans with up to 30 links, to other traces and to their own.
	ManyLinks
	// Late: spans that come in a later batch.
	Late
	// EqualCopies: spans that come twice.
	EqualCopies
	// UnequalCopies: spans that come twice, and differ.
	UnequalCopies
	// ClockSkew: the clock of a service is fast or slow.
	ClockSkew
	// EndBeforeStart: spans that end before they start.
	EndBeforeStart
	// LeadingZeros: trace IDs and span IDs that begin with zero bytes.
	LeadingZeros

	nastyEnd
)

// Rates are the shares of traces, 0 to 1, that have each kind of what hurts:
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

// String returns the name in lower case, with hyphens.
func (n Nasty) String() string {
	if n >= nastyEnd {
		return "nasty(" + strconv.Itoa(int(n)) + ")"
	}
	return nastyNames[n]
}

// AllNasty returns every kind of what hurts.
func AllNasty() []Nasty {
	all := make([]Nasty, 0, nastyEnd-1)
	for n := nothing + 1; n < nastyEnd; n++ {
		all = append(all, n)
	}
	return all
}

// nastySet is a set of Nasty, by bit.
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
