package trace_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/betracehq/betrace/trace"
)

func TestParseID(t *testing.T) {
	for _, tc := range []struct{ name, in, want, err string }{
		{"whole", "0123456789abcdef0123456789ABCDEF", "0123456789abcdef0123456789abcdef", ""},
		{"no leading zeros, as from Tempo's search", "a1", "000000000000000000000000000000a1", ""},
		{"odd number of digits", "f00", "00000000000000000000000000000f00", ""},
		{"all zero", "0", "00000000000000000000000000000000", ""},
		{"empty", "", "", `trace ID "": want 1 to 32 hexadecimal digits, have 0 characters`},
		{"33 digits", "00123456789abcdef0123456789abcdef", "", `want 1 to 32 hexadecimal digits, have 33 characters`},
		{"no digit", "0x1f", "", `trace ID "0x1f": want hexadecimal digits: encoding/hex: invalid byte: U+0078 'x'`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id, err := trace.ParseID(tc.in)
			if tc.err != "" {
				assert.ErrorContains(t, err, tc.err)
				assert.True(t, id.IsZero())
				return
			}
			assert.NoError(t, err)
			assert.Equal(t, tc.want, id.String())
		})
	}
}

func TestParseSpanID(t *testing.T) {
	for _, tc := range []struct{ name, in, want, err string }{
		{"whole", "0123456789ABCdef", "0123456789abcdef", ""},
		{"leading zeros", "0000000000000001", "0000000000000001", ""},
		{"short", "1", "", `span ID "1": want 16 hexadecimal digits, have 1 characters`},
		{"long", "00123456789abcdef", "", `want 16 hexadecimal digits, have 17 characters`},
		{"no digit", "0123456789abcdeg", "", `want hexadecimal digits`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id, err := trace.ParseSpanID(tc.in)
			if tc.err != "" {
				assert.ErrorContains(t, err, tc.err)
				assert.True(t, id.IsZero())
				return
			}
			assert.NoError(t, err)
			assert.Equal(t, tc.want, id.String())
		})
	}
}

func TestIDsAreOrderedByTheirBytes(t *testing.T) {
	assert.Equal(t, -1, trace.ID{0, 1}.Compare(trace.ID{1, 0}))
	assert.Equal(t, 0, trace.ID{15: 1}.Compare(trace.ID{15: 1}))
	assert.Equal(t, 1, trace.ID{255}.Compare(trace.ID{127}), "bytes are unsigned")
	assert.Equal(t, -1, trace.SpanID{0, 1}.Compare(trace.SpanID{1}))
	assert.Equal(t, 1, trace.SpanID{7: 2}.Compare(trace.SpanID{7: 1}))
	assert.True(t, trace.ID{}.IsZero())
	assert.False(t, trace.ID{15: 1}.IsZero())
	assert.True(t, trace.SpanID{}.IsZero())
	assert.False(t, trace.SpanID{7: 1}.IsZero())
}
