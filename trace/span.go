package trace

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"
)

// ServiceName is the resource attribute that names a span's service.
const ServiceName = "service.name"

// Kind is a span's kind, by OTLP's number.
type Kind int32

// The kinds of OTLP.
const (
	KindUnspecified Kind = iota
	KindInternal
	KindServer
	KindClient
	KindProducer
	KindConsumer
)

// KindNames are the names of the kinds as rules and TraceQL write them, by number.
var KindNames = [...]string{"unspecified", "internal", "server", "client", "producer", "consumer"}

// String returns the kind's name; an unknown number is "unspecified".
func (k Kind) String() string {
	if k < 0 || int(k) >= len(KindNames) {
		return KindNames[KindUnspecified]
	}
	return KindNames[k]
}

// Status is a span's status code, by OTLP's number.
type Status int32

// The status codes of OTLP.
const (
	StatusUnset Status = iota
	StatusOK
	StatusError
)

// StatusNames are the names of the status codes as rules and TraceQL write them, by number.
var StatusNames = [...]string{"unset", "ok", "error"}

// String returns the status's name; an unknown number is "unset".
func (s Status) String() string {
	if s < 0 || int(s) >= len(StatusNames) {
		return StatusNames[StatusUnset]
	}
	return StatusNames[s]
}

// Time is a point in time in nanoseconds since the Unix epoch, as in OTLP.
type Time uint64

// TimeOf returns t as nanoseconds since the Unix epoch, and 0 for times before it.
func TimeOf(t time.Time) Time {
	if t.Before(time.Unix(0, 0)) {
		return 0
	}
	return Time(uint64(t.Unix())*uint64(time.Second) + uint64(t.Nanosecond()))
}

// Time returns t in UTC.
func (t Time) Time() time.Time {
	return time.Unix(int64(t/1e9), int64(t%1e9)).UTC()
}

// Sub returns the time from u to t, which must not be before u. The result is at most the longest
// [time.Duration], about 292 years.
func (t Time) Sub(u Time) time.Duration {
	return time.Duration(min(uint64(t-u), math.MaxInt64))
}

// Span is one span of a trace. Within a [Trace] it is in normal form and must not be changed.
type Span struct {
	ID            SpanID
	Kind          Kind
	ParentID      SpanID // zero if the span names no parent
	Name          string
	Start, End    Time
	Status        Status
	StatusMessage string
	Scope         string // name of the instrumentation scope
	ScopeVersion  string
	Attributes    Attributes
	Resource      Attributes
	Events        []Event
	Links         []Link
}

// Event is an event of a span.
type Event struct {
	Time       Time
	Name       string
	Attributes Attributes
}

// Link is a link from a span to a span of any trace.
type Link struct {
	TraceID    ID
	SpanID     SpanID
	Attributes Attributes
}

// Service returns the resource's service.name, or "" if it is absent or not a string.
func (s *Span) Service() string { return s.Resource.Get(ServiceName).Str() }

// Duration returns the time from start to end.
func (s *Span) Duration() time.Duration { return s.End.Sub(s.Start) }

// Attribute returns the span's attribute of that key, otherwise the resource's, as TraceQL's unscoped .key
// does. The value is absent if neither has the key.
func (s *Span) Attribute(key string) Value {
	if v := s.Attributes.Get(key); !v.IsAbsent() {
		return v
	}
	return s.Resource.Get(key)
}

// CompareOrder compares spans by their order within a trace: start, span ID, kind.
func (s *Span) CompareOrder(o *Span) int {
	return cmp.Or(cmp.Compare(s.Start, o.Start), s.compareKey(o))
}

// compareKey compares the fields that identify a span within a trace.
func (s *Span) compareKey(o *Span) int {
	return cmp.Or(s.ID.Compare(o.ID), cmp.Compare(s.Kind, o.Kind))
}

func (s *Span) equal(o *Span) bool {
	return s.ID == o.ID && s.Kind == o.Kind && s.ParentID == o.ParentID && s.Name == o.Name &&
		s.Start == o.Start && s.End == o.End && s.Status == o.Status && s.StatusMessage == o.StatusMessage &&
		s.Scope == o.Scope && s.ScopeVersion == o.ScopeVersion &&
		s.Attributes.Compare(o.Attributes) == 0 && s.Resource.Compare(o.Resource) == 0 &&
		CompareLists(s.Events, o.Events, compareEvents) == 0 && CompareLists(s.Links, o.Links, compareLinks) == 0
}

// merge sets each field to the greater of its values in s and in o, another copy of the same span.
func (s *Span) merge(o *Span) {
	if o.ParentID.Compare(s.ParentID) > 0 {
		s.ParentID = o.ParentID
	}
	s.Name = max(s.Name, o.Name)
	s.Start = max(s.Start, o.Start)
	s.End = max(s.End, o.End)
	s.Status = max(s.Status, o.Status)
	s.StatusMessage = max(s.StatusMessage, o.StatusMessage)
	s.Scope = max(s.Scope, o.Scope)
	s.ScopeVersion = max(s.ScopeVersion, o.ScopeVersion)
	s.Attributes = s.Attributes.merge(o.Attributes)
	s.Resource = s.Resource.merge(o.Resource)
	s.Events = mergeLists(s.Events, o.Events, CompareEventKeys, func(a, b Event) Event {
		a.Attributes = a.Attributes.merge(b.Attributes)
		return a
	})
	s.Links = mergeLists(s.Links, o.Links, CompareLinkKeys, func(a, b Link) Link {
		a.Attributes = a.Attributes.merge(b.Attributes)
		return a
	})
}

// mergeLists returns the greater of two lists, compared by their elements' keys. If all keys are equal, the
// elements are merged. Attributes must not decide which list is greater, because possibly not all of them
// were read.
func mergeLists[E any](as, bs []E, keys func(a, b E) int, merge func(a, b E) E) []E {
	switch c := CompareLists(as, bs, keys); {
	case c > 0, len(as) == 0 && c == 0:
		return as
	case c < 0:
		return bs
	}
	merged := make([]E, len(as))
	for i := range as {
		merged[i] = merge(as[i], bs[i])
	}
	return merged
}

// CompareEventKeys compares the fields that are read of every event: time and name.
func CompareEventKeys(a, b Event) int {
	return cmp.Or(cmp.Compare(a.Time, b.Time), strings.Compare(a.Name, b.Name))
}

// CompareLinkKeys compares the fields that are read of every link: trace ID and span ID.
func CompareLinkKeys(a, b Link) int {
	return cmp.Or(a.TraceID.Compare(b.TraceID), a.SpanID.Compare(b.SpanID))
}

func compareEvents(a, b Event) int {
	return cmp.Or(CompareEventKeys(a, b), a.Attributes.Compare(b.Attributes))
}

func compareLinks(a, b Link) int {
	return cmp.Or(CompareLinkKeys(a, b), a.Attributes.Compare(b.Attributes))
}

// normalize brings the attributes of the span into normal form, as spans that callers build need not have it.
// It reports whether a key had unequal values.
func (s *Span) normalize() (repeated bool) {
	fix := func(as *Attributes) {
		if !as.isNormal() {
			normal, again := NewAttributes(slices.Clone(*as))
			*as, repeated = normal, repeated || again
		}
	}
	fix(&s.Attributes)
	fix(&s.Resource)
	for i := range s.Events {
		fix(&s.Events[i].Attributes)
	}
	for i := range s.Links {
		fix(&s.Links[i].Attributes)
	}
	return repeated
}
