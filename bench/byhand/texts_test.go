package byhand

import (
	"bytes"
	"testing"

	"github.com/betracehq/betrace/bench/batches"
	"github.com/betracehq/betrace/trace/columnar"
)

// BenchmarkTexts compares methods of finding spans by a string.
func BenchmarkTexts(b *testing.B) {
	needs := columnar.Needs{Attributes: []columnar.AttributeKey{{Scope: columnar.ScopeSpan, Key: "http.route"}}}
	batch := batches.Make(batches.Options{Seed: 1, Spans: 300_000}, needs)[0]
	column := &batch.Attribute("http.route").Text
	text := []byte("/api/v2/orders/{id}/summary")
	for _, way := range []struct {
		name string
		run  func() int
	}{
		{"bytes", func() (found int) {
			for _, code := range column.Codes {
				if code != 0 && bytes.Equal(column.Bytes(code), text) {
					found++
				}
			}
			return found
		}},
		{"table", func() (found int) {
			is := codes(column, string(text))
			for _, code := range column.Codes {
				if is[code] {
					found++
				}
			}
			return found
		}},
		{"one code", func() (found int) {
			is := code(column, string(text))
			for _, code := range column.Codes {
				if code == is {
					found++
				}
			}
			return found
		}},
	} {
		b.Run(way.name, func(b *testing.B) {
			found := 0
			for b.Loop() {
				found += way.run()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(batch.NumSpans()), "ns/span")
			if found == 0 {
				b.Fatal("no span was found")
			}
		})
	}
}

// noCode is a code that no column contains.
const noCode = ^uint32(0)

// code returns the only code of a string in a column whose strings are interned, or noCode.
func code(c *columnar.TextColumn, text string) uint32 {
	for code := 1; code <= c.NumTexts(); code++ {
		if string(c.Bytes(uint32(code))) == text {
			return uint32(code)
		}
	}
	return noCode
}
