package otlp_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/otlp"
	"github.com/betracehq/betrace/trace/tracetest"
)

// messages are a few OTLP messages with values of all types.
func messages(n int) (list []ptrace.Traces) {
	r := rand.New(rand.NewPCG(7, 7))
	for range n {
		td := ptrace.NewTraces()
		for range 1 + r.IntN(3) {
			s := tracetest.RandomSpan(r, 4, 3)
			appendOTLP(td, &s)
		}
		list = append(list, td)
	}
	return list
}

func asJSON(t testing.TB, td ptrace.Traces) []byte {
	t.Helper()
	b, err := (&ptrace.JSONMarshaler{}).MarshalTraces(td)
	require.NoError(t, err)
	return b
}

func asProto(t testing.TB, td ptrace.Traces) []byte {
	t.Helper()
	b, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(td)
	require.NoError(t, err)
	return b
}

func withLength(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

func zipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, err := w.Write(b)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return buf.Bytes()
}

// read returns the messages that Read passes on, each as protobuf.
func read(t testing.TB, r io.Reader) (got [][]byte, err error) {
	t.Helper()
	err = otlp.Read(r, func(td ptrace.Traces) error {
		got = append(got, asProto(t, td))
		return nil
	})
	return got, err
}

func TestReadOTLPReadsEveryFormat(t *testing.T) {
	list := messages(3)
	var lines, together, spaced, framed []byte
	for _, td := range list {
		lines = append(append(lines, asJSON(t, td)...), '\n')
		together = append(together, asJSON(t, td)...)
		spaced = append(append(spaced, " \r\n\t\n"...), asJSON(t, td)...)
		framed = append(framed, withLength(asProto(t, td))...)
	}
	pretty := []byte("{\n  \"resourceSpans\": [\n  ]\n}\n")
	empty := withLength(nil)
	for _, tc := range []struct {
		name  string
		input []byte
		want  []ptrace.Traces
	}{
		{"JSON", asJSON(t, list[0]), list[:1]},
		{"JSON lines", lines, list},
		{"JSON objects without anything between them", together, list},
		{"JSON with white space around", append(spaced, " \n"...), list},
		{"JSON after a newline", append([]byte("\n"), lines...), list},
		{"JSON after a tab", append([]byte("\t"), lines...), list},
		{"pretty JSON, no spans", pretty, []ptrace.Traces{ptrace.NewTraces()}},
		{"JSON without anything", []byte("{}"), []ptrace.Traces{ptrace.NewTraces()}},
		{"JSON with the field's proto name", []byte(`{"resource_spans": []}`), []ptrace.Traces{ptrace.NewTraces()}},
		{"protobuf", asProto(t, list[1]), list[1:2]},
		{"protobuf with lengths", framed, list},
		{"protobuf with lengths, one empty", append(empty, framed...), append([]ptrace.Traces{ptrace.NewTraces()}, list...)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var want [][]byte
			for _, td := range tc.want {
				want = append(want, asProto(t, td))
			}
			for name, r := range map[string]io.Reader{
				"plain":               bytes.NewReader(tc.input),
				"gzip":                bytes.NewReader(zipped(t, tc.input)),
				"gzip in two members": io.MultiReader(bytes.NewReader(zipped(t, tc.input[:1])), bytes.NewReader(zipped(t, tc.input[1:]))),
				"byte by byte":        iotest.OneByteReader(bytes.NewReader(tc.input)),
			} {
				got, err := read(t, r)
				assert.NoError(t, err, name)
				assert.Equal(t, want, got, name)
			}
		})
	}
}

func TestAFirstMessageOfOver16MiBIsRead(t *testing.T) {
	td := ptrace.NewTraces()
	s := tracetest.RandomSpan(rand.New(rand.NewPCG(1, 1)), 1, 1)
	appendOTLP(td, &s)
	td.ResourceSpans().At(0).Resource().Attributes().PutStr("big", strings.Repeat("x", 17<<20))
	message := asProto(t, td)
	require.NotZero(t, withLength(message)[0], "the first byte of the length")
	got, err := read(t, bytes.NewReader(withLength(message)))
	require.NoError(t, err)
	assert.True(t, bytes.Equal(message, got[0]))
}

func TestReadOTLPSaysWhatIsWrong(t *testing.T) {
	list := messages(2)
	json1, json2 := asJSON(t, list[0]), asJSON(t, list[1])
	proto1, proto2 := asProto(t, list[0]), asProto(t, list[1])
	for _, tc := range []struct {
		name  string
		input []byte
		reads int // messages before the error
		want  string
	}{
		{"empty", nil, 0, "no OTLP traces: the input is empty"},
		{"empty gzip", zipped(t, nil), 0, "no OTLP traces: the input is empty"},
		{"only white space", []byte(" \n "), 0, "no OTLP traces: the input has no objects"},
		{"text", []byte("hello"), 0, "no OTLP traces: the input starts with 68 65; want OTLP JSON, JSON lines or protobuf, plain or compressed with gzip or zstd"},
		{"an empty list", []byte("[]"), 0, "no OTLP traces: the input has no objects"},
		{"a list that does not end", []byte("[{}\n"), 1, "line 2: the input ends in the middle of a list"},
		{"a list without a comma", []byte("[{} {}]"), 1, "line 1: want an object of OTLP JSON, found '{'"},
		{"a list of numbers", []byte("[1]"), 0, "line 1: want an object of OTLP JSON, found '1'"},
		{"one byte", []byte{0x80}, 0, "no OTLP traces: the input starts with 80"},
		{"other JSON", []byte(`{"spans": []}`), 0, `line 1: no OTLP traces: an object with "spans", without "resourceSpans"`},
		{"a string in JSON lines", append(append([]byte{}, json1...), "\n\"a\""...), 1, `line 2: want an object of OTLP JSON, found '"'`},
		{"a field of the wrong type", []byte(`{"resourceSpans": 7}`), 0, "line 1: resourceSpans: want a list, found a number"},
		{"a span ID that is not hex", []byte("{\"resourceSpans\": [{\"scopeSpans\": [{\"spans\": [\n{\"spanId\": \"xyz\"}]}]}]}"), 0,
			`line 2: resourceSpans[0].scopeSpans[0].spans[0].spanId: "xyz" is not an ID of 8 bytes: want 16 hexadecimal digits, or 12 characters of base64`},
		{"JSON cut", json1[:len(json1)-3], 0, "line 1: the input ends in the middle of an object"},
		{"second JSON cut", append(append([]byte{}, json1...), json2[:20]...), 1, "line 1: the input ends in the middle of an object"},
		{"protobuf cut", proto1[:len(proto1)-1], 0, "OTLP protobuf: message 1, at byte 0: "},
		{"protobuf of another message", []byte{0x0a, 0x02, 0xff, 0xff}, 0, "OTLP protobuf: message 1, at byte 0: "},
		{"length cut", append(withLength(proto1), 0, 0), 1, "the length of message 2, at byte "},
		{"message cut", withLength(proto1)[:len(proto1)], 0, "message 1, at byte 0: the input ends after "},
		{"second message cut", append(withLength(proto1), withLength(proto2)[:9]...), 1, "the input ends after 5 of its "},
		{"third message cut", append(append(withLength(proto1), withLength(proto2)...), withLength(proto1)[:9]...), 2,
			fmt.Sprintf("message 3, at byte %d: the input ends after 5 of its ", 8+len(proto1)+len(proto2))},
		{"a length over the limit", append(withLength(proto1), 0xff, 0xff, 0xff, 0xff), 1, "a length of 4294967295 bytes exceeds the limit of 1073741824"},
		{"gzip header cut", zipped(t, json1)[:5], 0, "read gzip: the input ends in the middle of a message"},
		{"gzip cut", zipped(t, json1)[:40], 0, "the input ends in the middle of a message"},
		{"gzipped protobuf cut", zipped(t, proto1)[:40], 0, "the input ends in the middle of a message"},
		{"gzip with a wrong checksum", flipLast(zipped(t, json1)), 1, "gzip: invalid checksum"},
		{"gzip in gzip in gzip", zipped(t, zipped(t, zipped(t, json1))), 0, "compressed more than 2 times: decompress it once"},
		{"gzip of text", zipped(t, []byte("hello")), 0, "the input starts with 68 65"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := read(t, bytes.NewReader(tc.input))
			assert.ErrorContains(t, err, tc.want)
			assert.Len(t, got, tc.reads)
		})
	}
}

// flipLast breaks the checksum of a gzip stream. Its last 8 bytes are the checksum and the length.
func flipLast(b []byte) []byte {
	b[len(b)-8] ^= 1
	return b
}

func TestErrorsOfTheReaderAndOfAddAreReturned(t *testing.T) {
	broken := errors.New("disk on fire")
	list := messages(1)
	for name, input := range map[string][]byte{"JSON": asJSON(t, list[0]), "protobuf": asProto(t, list[0]), "protobuf with lengths": withLength(asProto(t, list[0]))} {
		_, err := read(t, io.MultiReader(bytes.NewReader(input[:10]), iotest.ErrReader(broken)))
		assert.ErrorIs(t, err, broken, name)
		err = otlp.Read(bytes.NewReader(input), func(ptrace.Traces) error { return broken })
		assert.ErrorIs(t, err, broken, name)
		assert.Regexp(t, `^(line 1|OTLP protobuf: message 1, at byte 0): `, err.Error(), name)
	}
	_, err := read(t, iotest.ErrReader(broken))
	assert.ErrorIs(t, err, broken)
}

// TestNothingOfACutFileIsInventedOrLostSilently cuts a file at every byte. Only whole messages from its
// beginning may be read, and there is no error only if the cut is between two messages.
func TestNothingOfACutFileIsInventedOrLostSilently(t *testing.T) {
	list := messages(2)
	var want [][]byte
	var lines, framed []byte
	for _, td := range list {
		want = append(want, asProto(t, td))
		lines = append(lines, asJSON(t, td)...)
		framed = append(framed, withLength(asProto(t, td))...)
	}
	for name, file := range map[string][]byte{"JSON": lines, "protobuf with lengths": framed, "gzip": zipped(t, lines)} {
		clean := 0
		for at := range file {
			got, err := read(t, bytes.NewReader(file[:at]))
			require.LessOrEqual(t, len(got), len(want), "%s cut at %d", name, at)
			require.Equal(t, want[:len(got)], append([][]byte{}, got...), "%s cut at %d", name, at)
			if err == nil {
				clean++
			}
		}
		if name == "gzip" {
			assert.Zero(t, clean, "a cut gzip stream is always detected")
		} else {
			assert.Equal(t, 1, clean, "%s: only the cut after the first message", name)
		}
	}
}

// FuzzRead checks that ReadFile returns for any input, and that its messages can be converted to normal form.
// JSON that it reads without a problem must give the same traces as the plain reader, which accepts more.
func FuzzRead(f *testing.F) {
	for _, td := range messages(3) {
		for _, b := range [][]byte{asJSON(f, td), asProto(f, td), withLength(asProto(f, td))} {
			f.Add(b)
			f.Add(zipped(f, b))
			f.Add(zstdOf(f, b))
			f.Add(b[:len(b)/2])
		}
	}
	for seed := range uint64(20) {
		s := speller{r: rand.New(rand.NewPCG(seed, 1)), ordinary: 0.7}
		file, _ := s.file(messages(1))
		f.Add(file)
		f.Add(s.packed(f, file))
	}
	f.Add([]byte("\n{}"))
	f.Add([]byte{0x0a, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte(`{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"` + trace1 + `","spanId":"` + span1 + `","parentSpanId":"` + span1 + `"}]}]}]}`))
	f.Add([]byte(`{"trace":{"batches":[{"scopeSpans":[{"spans":[{"trace_id":"` + trace1 + `","span_id":"AAAAAAAAAAE="}]}]}]},"scopeSpans":[]}`))
	f.Fuzz(func(t *testing.T, input []byte) {
		traces, report := asTraces(input)
		for _, tr := range traces {
			for i := range tr.Spans {
				assert.LessOrEqual(t, tr.Spans[i].Start, tr.Spans[i].End)
				tr.Ancestors(i)
				tr.Descendants(i)
			}
		}
		if report.Err() != nil || !bytes.HasPrefix(input, []byte("{")) || !utf8.Valid(input) || repeatsKeys(input) {
			return
		}
		plain, err := plainTraces(input)
		if err != nil {
			return // encoding/json has no lists without brackets, and no marks between objects
		}
		slices.SortFunc(plain, func(a, b *trace.Trace) int { return a.ID.Compare(b.ID) })
		sameTraces(t, plain, traces, 0)
	})
}

// repeatsKeys reports whether an object has a key twice, in any spelling. encoding/json uses the last one.
func repeatsKeys(file []byte) bool {
	dec := json.NewDecoder(bytes.NewReader(file))
	var seen []map[string]bool // one for each open object; nil for a list
	key := false
	for {
		token, err := dec.Token()
		if err != nil {
			return false
		}
		inObject := len(seen) > 0 && seen[len(seen)-1] != nil
		switch token {
		case json.Delim('{'):
			seen, key = append(seen, map[string]bool{}), true
			continue
		case json.Delim('['):
			seen, key = append(seen, nil), false
			continue
		case json.Delim('}'), json.Delim(']'):
			seen = seen[:len(seen)-1]
			key = len(seen) > 0 && seen[len(seen)-1] != nil
			continue
		}
		if inObject && key {
			name := strings.ReplaceAll(strings.ToLower(fmt.Sprint(token)), "_", "")
			for _, older := range []string{"instrumentationlibrary", "deprecatedscope"} { // other names of one field
				name = strings.ReplaceAll(name, older, "scope")
			}
			if seen[len(seen)-1][name] {
				return true
			}
			seen[len(seen)-1][name] = true
		}
		key = inObject && !key
	}
}
