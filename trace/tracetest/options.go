package tracetest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Options define the traces that are generated. The zero value of a field means its default. Start from
// [Clean] or [Mixed].
type Options struct {
	// Seed determines everything random. The same options generate the same traces, byte by byte.
	Seed uint64
	// Traces is the number of traces that [Generator.Next] and [Generator.All] return.
	Traces int
	// Each trace starts at a random time in [Start, Start+Window). The default is the hour from 2026-03-01
	// 00:00 UTC.
	Start  time.Time
	Window time.Duration
	// Kinds are the kinds of traces, all equally frequent. The default is all kinds.
	Kinds []Kind
	// MinSpans and MaxSpans limit the number of spans in a trace, without further copies, to 1 up to 100,000
	// and more. The defaults are 1 and 100. Small traces are more frequent: the logarithm of the size is
	// uniformly distributed.
	MinSpans, MaxSpans int
	// ViolationRate is the share of traces, from 0 to 1, that violate at least one rule of [Pack]. A third of
	// them violate two if they have enough spans.
	ViolationRate float64
	// Nasty holds the share of traces with each difficulty.
	Nasty Rates
	// MaxSkew limits the error of a service's clock under [ClockSkew]. The default is 5 minutes, the minimum a
	// second.
	MaxSkew time.Duration
}

// MaxTempoSpans is the number of spans up to which a trace, with everything that [Options.ForTempo] leaves
// in, stays below 5 MB in OTLP protobuf. That is the size of the largest trace that Tempo keeps by default
// (max_bytes_per_trace).
const MaxTempoSpans = 2500

// Clean returns options for well-formed traces of all kinds without violations.
func Clean(seed uint64, traces int) Options { return Options{Seed: seed, Traces: traces} }

// Mixed returns options for traces of all kinds. Three in ten violate a rule, and each difficulty is in one
// of twelve.
func Mixed(seed uint64, traces int) Options {
	o := Options{Seed: seed, Traces: traces, ViolationRate: 0.3}
	for _, n := range AllNasty() {
		o.Nasty[n] = 1. / 12
	}
	return o
}

// ForTempo returns the options without everything that a Tempo with default limits loses or alters, so that
// the sent traces can be compared with the stored ones:
//
//   - traces over 5 MB, see [MaxTempoSpans];
//   - attribute values over 2 KiB, which Tempo cuts: [LongValues];
//   - unequal copies of a span, of which Tempo keeps an arbitrary one: [UnequalCopies];
//   - values that search does not find because blocks store them as JSON: [Bytes], [Maps], [MixedLists],
//     [AbsentValues];
//   - spans that are more than 2 minutes old when they arrive, provided the traces are sent within a minute
//     of Start: clocks are wrong by at most 5 seconds, and no span ends later than 40 seconds after its
//     trace's start.
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

// Validate returns an error for everything that is invalid in the options.
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
			wrong("unknown kind %q: want one of %q", k, AllKinds())
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
		wrong("Nasty[0] is %v: want 0, because it means no difficulty", o.Nasty[nothing])
	}
	return errors.Join(errs...)
}
