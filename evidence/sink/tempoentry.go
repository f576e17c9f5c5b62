package sink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/trace"
)

// Takes reports whether the kind is a violation or a correction. Statements have no spans.
func (s *Tempo) Takes(kind string) bool { return kind == KindViolation || kind == KindCorrection }

// Send sends a span for each violation and correction.
func (s *Tempo) Send(ctx context.Context, items []Item) error {
	var violations []evidence.Violation
	var corrections []evidence.Correction
	for i := range items {
		item := &items[i]
		if item.FiledAt.IsZero() {
			return fmt.Errorf("%s %s has no filing time", item.Kind, item.ID)
		}
		switch {
		case item.Violation != nil:
			v := *item.Violation
			v.FiledAt = item.FiledAt
			violations = append(violations, v)
		case item.Correction != nil:
			c := *item.Correction
			c.FiledAt = item.FiledAt
			corrections = append(corrections, c)
		}
	}
	spans := ptrace.NewTraces()
	evidence.Spans(violations, time.Time{}).ResourceSpans().MoveAndAppendTo(spans.ResourceSpans())
	evidence.CorrectionSpans(corrections).ResourceSpans().MoveAndAppendTo(spans.ResourceSpans())
	if spans.ResourceSpans().Len() == 0 {
		return nil
	}
	return s.Export(ctx, spans)
}

// Held returns the IDs of the items that Tempo has. It searches from the oldest filing time until now. Tempo does not
// find a span by search in the first seconds, nor while it moves the span to its storage, so that a missing ID does not
// prove that the span is missing; reading by ID does (see [Tempo.HeldByID]).
func (s *Tempo) Held(ctx context.Context, entry string, items []Item) (map[string]bool, error) {
	held := map[string]bool{}
	items = slices.DeleteFunc(slices.Clone(items), func(item Item) bool { return !s.Takes(item.Kind) })
	if len(items) == 0 {
		return held, nil
	}
	wanted := map[string]bool{} // by kind and ID
	for i := range items {
		wanted[items[i].Kind+items[i].ID] = true
	}
	from, to := oldest(items).Add(-time.Minute), s.now().Add(time.Minute)
	limit := cmp.Or(s.SearchLimit, 5000)
	for prefix, part := range byPrefix(items, limit*4/5) {
		query := "{ span." + evidence.AttrEntry + " = " + strconv.Quote(entry)
		if prefix != "" {
			query += " && span." + evidence.AttrViolationID + " =~ " + strconv.Quote(prefix+".*")
		}
		query += " } | select(span." + evidence.AttrViolationID + ", span." + evidence.AttrCorrectionID + ")"
		// Spans of another tenant's entry with the same name may be found, too.
		want := min(limit, len(part)+len(part)/4+10)
		found, err := s.Search(ctx, query, from, to, want)
		if s.LimitRefused != nil && errors.Is(err, s.LimitRefused) {
			found, err = nil, nil
			want = 0
		}
		if err != nil {
			return nil, err
		}
		for _, attributes := range found {
			kind, id := KindViolation, attributes[evidence.AttrViolationID]
			// A correction's span names its violation, too. Search may return a string that stands for an absent value.
			if c := attributes[evidence.AttrCorrectionID]; len(c) == len(id) {
				kind, id = KindCorrection, c
			}
			if wanted[kind+id] {
				held[id] = true
			}
		}
		if len(found) < want {
			continue
		}
		// The search may have left items out.
		part = slices.DeleteFunc(part, func(item Item) bool { return held[item.ID] })
		byID, err := s.HeldByID(ctx, part)
		if err != nil {
			return nil, err
		}
		for id := range byID {
			held[id] = true
		}
	}
	return held, nil
}

func oldest(items []Item) time.Time {
	return slices.MinFunc(items, func(a, b Item) int { return a.FiledAt.Compare(b.FiledAt) }).FiledAt
}

// byPrefix divides items into parts of at most a number of items, by the first digits of their violation IDs. Items
// that fit into one part have an empty prefix.
func byPrefix(items []Item, most int) map[string][]Item {
	for digits := 0; ; digits++ {
		parts := map[string][]Item{}
		largest := 0
		for _, item := range items {
			id := item.ID
			if item.Correction != nil {
				id = item.Correction.ViolationID
			}
			prefix := id[:min(digits, len(id))]
			parts[prefix] = append(parts[prefix], item)
			largest = max(largest, len(parts[prefix]))
		}
		if largest <= most || digits == 4 {
			return parts
		}
	}
}

// HeldByID reads the trace of each item by its ID, and returns the IDs of the items that Tempo has, regardless of their
// age.
func (s *Tempo) HeldByID(ctx context.Context, items []Item) (map[string]bool, error) {
	lookups := make([]lookup, 0, len(items))
	for i := range items {
		switch id := items[i].ID; items[i].Kind {
		case KindViolation:
			lookups = append(lookups, lookup{id, evidence.SpanIDs, evidence.HoldsViolation})
		case KindCorrection:
			lookups = append(lookups, lookup{id, evidence.CorrectionSpanIDs, evidence.HoldsCorrection})
		}
	}
	return s.read(ctx, lookups)
}

// lookup is the search for the span of a violation or correction by its ID.
type lookup struct {
	id    string
	idsOf func(string) (trace.ID, trace.SpanID)
	holds func(*trace.Trace, string) bool
}
