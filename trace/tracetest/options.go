package tracetest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Options say which traces are generated. The zero value of a field stands for
// the default it names. Use [Clean] or [Mixed] to start from.
type Options struct {
	// Seed decides everything that is random. The same options give the same
	// traces, byte by byte.
	Seed uint64
	// Traces is how many traces [Generator.Next] and [Generator.All] give.
	Traces int
	// Start and Window say when traces start: each at a time of its own in
	// [Start, Start+Window). By default an hour from 2026-03-01 00:00 UTC.
	Start  time.Time
	Window time.Duration
	// Kinds are the kinds of traces, all equally often. By default all kinds.
	Kinds []Kind
	// MinSpans and MaxSpans bound the spans of a trace (copies not counted), from
	// 1 to 100,000 and more. By default 1 and 100. Small traces are more frequent:
	// the logarithm of the size is evenly distributed.
	MinSpans, MaxSpans int
	// ViolationRate is the share of traces (0 to 1) that violate at least one
	// rule of [Pack]. A third of those violate two, where they have room for it.
	ViolationRate float64
	// Nasty is how often traces have what hurts.
	Nasty Rates
	// MaxSkew bounds the error of a service's clock under [ClockSkew]. By default
	// 5 minutes; at least a second.
	MaxSkew time.Duration
}

// MaxTempoSpans is how many spans a trace may have so that, with everything that
// [Options.ForTempo] leaves in, it stays under 5 MB in OTLP protobuf, which is
// the largest trace that Tempo keeps by default (max_bytes_per_trace).
const MaxTempoSpans = 2500

// Clean gives well-formed traces of all kinds without violations.
func Clean(seed uint64, traces int) Options { return Options{Seed: seed, Traces: traces} }

// Mixed gives traces of all kinds, of which three in ten violate a rule and each
// kind of [Nasty] is in one of twelve.
func Mixed(seed uint64, traces int) Options {
	o := Options{Seed: seed, Traces: traces, ViolationRate: 0.3}
	for _, n := range AllNasty() {
		o.Nasty[n] = 1. / 12
	}
	return o
}

// ForTempo returns the options without what a Tempo with its default limits loses
// or alters, so that what was sent can be held against what it stores:
//
//   - traces over 5 MB: see [MaxTempoSpans];
//   - attribute values over 2 KiB, which are cut: [LongValues];
//   - unequal copies of a span, of which it keeps any: [UnequalCopies];
//   - values that search does not see since blocks hold them as JSON: [Bytes],
//     [Maps], [MixedLists], [AbsentValues];
//   - spans more than 2 minutes old when they arrive, as long as the traces are
//     sent within a minute of Start: clocks are wrong by 5 seconds at most. No
//     span ends later than 40 seconds after its trace's start.
func (o Options) ForTempo() Options {
	for _, n := range []Nasty{LongValues, UnequalCopies, Bytes, Maps, MixedLists, AbsentValues} {
		o.Nasty[n] = 0
	}
	o = o.withDefaults()
	o.MaxSpans = min(o.MaxSpans, MaxTempoSpans)
	o.MinSpans = min(o.MinSpans, o.MaxSpans)
	o.MaxSkew = min(o.MaxSkew, 5*time.Second)
	return o
}

func (o Options) withDefaults() Options {
	if o.Start.IsZero() {
		o.Start = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	}
	if o.Window == 0 {
		o.Window = time.Hour
	}
	if o.Kinds == nil {
		o.Kinds = AllKinds()
	}
	if o.MinSpans == 0 {
		o.MinSpans = 1
	}
	if o.MaxSpans == 0 {
		o.MaxSpans = max(100, o.MinSpans)
	}
	if o.MaxSkew == 0 {
		o.MaxSkew = 5 * time.Minute
	}
	return o
}

// Validate reports everything that is wrong with the options.
func (o Options) Validate() error {
	o = o.withDefaults()
	var errs []error
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("tracetest: "+format, args...))
	}
	if o.Traces < 0 {
		wrong("Traces is %d: want 0 or more", o.Traces)
	}
	if o.Start.Before(time.Unix(0, 0)) || o.Window < 0 || o.Start.Add(o.Window).Year() > 2200 {
		wrong("Start %v and Window %v: want a range between 1970 and 2200", o.Start, o.Window)
	}
	if o.MinSpans < 1 || o.MaxSpans < o.MinSpans {
		wrong("MinSpans is %d and MaxSpans %d: want 1 <= MinSpans <= MaxSpans", o.MinSpans, o.MaxSpans)
	}
	if o.MaxSkew < time.Second || o.MaxSkew > 24*time.Hour {
		wrong("MaxSkew is %v: want 1s to 24h", o.MaxSkew)
	}
	if len(o.Kinds) == 0 {
		wrong("Kinds is empty: want nil for all kinds, or at least one")
	}
	for _, k := range o.Kinds {
		if !slices.Contains(AllKinds(), k) {
			wrong("there is no kind %q: want one of %q", k, AllKinds())
		}
	}
	share := func(name string, rate float64) {
		if math.IsNaN(rate) || rate < 0 || rate > 1 {
			wrong("%s is %v: want a share of traces from 0 to 1", name, rate)
		}
	}
	share("ViolationRate", o.ViolationRate)
	for n, rate := range o.Nasty {
		share("Nasty["+Nasty(n).String()+"]", rate)
	}
	if o.Nasty[nothing] != 0 {
		wrong("Nasty[0] is %v: it stands for nothing", o.Nasty[nothing])
	}
	return errors.Join(errs...)
}
