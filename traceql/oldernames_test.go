package traceql

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/trace"
)

func TestOlderNamesAreReadInTheirOrder(t *testing.T) {
	older := map[string][]string{"url.full": {"http.url", "url"}, "n": {"m"}}
	for _, row := range [][2]string{
		{`{ name = "a" && span.other = "x" }`, `{ name = "a" && span.other = "x" }`},
		{`{ span.n > 5 }`, `{ span.n > 5 || (span.n = nil && span.m > 5) }`},
		{`{ span.url.full = "x" }`, `{ span.url.full = "x" || (span.url.full = nil && (span.http.url = "x" || (span.http.url = nil && span.url = "x"))) }`},
		{`{ .n != 1 }`, `{ span.n != 1 || (span.n = nil && (span.m != 1 || (span.m = nil && (resource.n != 1 || (resource.n = nil && resource.m != 1))))) }`},
		{`{ resource.n = nil }`, `{ resource.n = nil && resource.m = nil }`},
		{`{ span.n != nil && kind = server }`, `{ (span.n != nil || span.m != nil) && kind = server }`},
		{`{ !span.n }`, `{ !(span.n || (span.n = nil && span.m)) }`},
		{`{ event.n = 1 }`, `{ event.n = 1 || event.m = 1 }`},
		{`{ span.n + 1 > 2 }`, `{ (span.n != nil && span.n + 1 > 2) || (span.n = nil && span.m + 1 > 2) }`},
	} {
		f, err := Parse(row[0])
		require.NoError(t, err)
		require.Equal(t, row[1], f.WithOlderNames(older).String(), row[0])
	}
}

// TestAFilterWithOlderNamesMatchesAsIfAttributesWereRenamed compares a filter with older names with the
// original filter on traces whose attributes were renamed.
func TestAFilterWithOlderNamesMatchesAsIfAttributesWereRenamed(t *testing.T) {
	older := map[string][]string{"a": {"b", "c"}}
	rename := func(as trace.Attributes) trace.Attributes {
		if !as.Get("a").IsAbsent() {
			return as
		}
		for _, name := range older["a"] {
			if v := as.Get(name); !v.IsAbsent() {
				renamed, _ := trace.NewAttributes(append(slices.Clone(as), trace.Attribute{Key: "a", Value: v}))
				return renamed
			}
		}
		return as
	}
	matched, changed := 0, 0
	for seed := range uint64(60) {
		ft := newFilterTest(seed)
		renamed := make([]*trace.Trace, len(ft.traces))
		for i, tr := range ft.traces {
			spans := slices.Clone(tr.Spans)
			for k := range spans {
				spans[k].Attributes, spans[k].Resource = rename(spans[k].Attributes), rename(spans[k].Resource)
			}
			renamed[i] = trace.New(tr.ID, spans)
		}
		for range 60 {
			f := ft.filter()
			if slices.ContainsFunc(f.Fields(), func(f Field) bool { return f.Scope == ScopeEvent || f.Scope == ScopeLink }) {
				continue
			}
			with := f.WithOlderNames(older)
			for i, tr := range ft.traces {
				want := f.Matches(renamed[i])
				require.Equal(t, want, with.Matches(tr), "%s as %s on %+v", f, with, tr.Spans)
				if want {
					matched++
					require.True(t, with.Prefilter().Matches(tr), "%s as %s", with, with.Prefilter())
				}
				if want != f.Matches(tr) {
					changed++
				}
			}
		}
	}
	require.Greater(t, matched, 1000)
	require.Greater(t, changed, 50)
}
