package blocks

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/otlp"
	"github.com/betracehq/betrace/traceql"
)

// The part of the schema of vParquet5 that is read.
type (
	rowTrace struct {
		TraceID           []byte
		StartTimeUnixNano uint64        `parquet:",delta"`
		EndTimeUnixNano   uint64        `parquet:",delta"`
		Resources         []rowResource `parquet:"rs"`
	}
	rowResource struct {
		Resource struct {
			ServiceName         string    `parquet:",snappy,dict"`
			Attrs               []rowAttr `parquet:""`
			DedicatedAttributes struct {
				String01 []string `parquet:",snappy,dict"`
			}
		}
		Scopes []rowScope `parquet:"ss"`
	}
	rowScope struct {
		Scope struct {
			Name    string `parquet:",snappy,dict"`
			Version string `parquet:",snappy,dict"`
		}
		Spans []rowSpan
	}
	rowSpan struct {
		SpanID              []byte
		ParentSpanID        []byte
		Name                string `parquet:",snappy,dict"`
		Kind                int64  `parquet:",delta"`
		StartTimeUnixNano   uint64 `parquet:",delta"`
		DurationNano        uint64 `parquet:",delta"`
		StatusCode          int64  `parquet:",delta"`
		StatusMessage       string `parquet:",snappy,dict"`
		Attrs               []rowAttr
		Events              []rowEvent
		Links               []rowLink
		DedicatedAttributes struct {
			String01 []string `parquet:",snappy,dict"`
			String02 []string `parquet:",snappy"`
			Int01    []int64  `parquet:",snappy"`
		}
	}
	rowEvent struct {
		TimeSinceStartNano uint64 `parquet:",delta"`
		Name               string `parquet:",snappy,dict"`
		Attrs              []rowAttr
	}
	rowLink struct {
		TraceID []byte
		SpanID  []byte
		Attrs   []rowAttr
	}
	rowAttr struct {
		Key              string `parquet:",snappy,dict"`
		IsArray          bool
		Value            []string  `parquet:",snappy,dict"`
		ValueInt         []int64   `parquet:",snappy"`
		ValueDouble      []float64 `parquet:",snappy"`
		ValueBool        []bool    `parquet:",snappy"`
		ValueUnsupported *string   `parquet:",snappy,optional"`
	}
)

var dedicatedOfRows = []DedicatedColumn{
	{Scope: "resource", Name: "host"}, {Name: "user"}, {Name: "tags", Options: []string{"array"}}, {Name: "size", Type: "int"},
}

// randomBlocks are traces as they are sent and as they are stored in blocks.
type randomBlocks struct {
	r    *rand.Rand
	sent otlp.Collector
	// The probability of rare properties, and the number of distinct strings.
	rare  float64
	texts int
	keys  []string // of spans, events and links
}

func (g *randomBlocks) chance(p float64) bool { return g.r.Float64() < p }

func (g *randomBlocks) text() string {
	n := g.r.IntN(g.texts)
	return fmt.Sprintf("%x", uint64(n)*0x9e3779b97f4a7c15)[:n%16]
}

// attrs returns attributes as OTLP JSON and as rows. own receives each attribute, and reports whether it
// stores the attribute in a dedicated column.
func (g *randomBlocks) attrs(most int, unique bool, keys []string, own func(key string, v any) bool) (otlp []string, rows []rowAttr) {
	for range g.r.IntN(most + 1) {
		key := keys[g.r.IntN(len(keys))]
		if unique && slices.ContainsFunc(otlp, func(a string) bool { return bytes.HasPrefix([]byte(a), []byte(`{"key":"`+key+`"`)) }) {
			continue
		}
		for again := true; again; again = !unique && g.chance(g.rare) { // a repeated key
			a := rowAttr{Key: key}
			value := ""
			typ := int(key[0]) % 4 // most values of a key have one type
			if g.chance(g.rare) {
				typ = g.r.IntN(9)
			}
			switch typ {
			case 0:
				v := g.text()
				value = `{"stringValue":` + strconv.Quote(v) + `}`
				if own == nil || !own(key, v) {
					a.Value = []string{v}
				} else {
					a.Key = ""
				}
			case 1:
				v := int64(g.r.IntN(5)) << g.r.IntN(60)
				value = fmt.Sprintf(`{"intValue":"%d"}`, v)
				if own == nil || !own(key, v) {
					a.ValueInt = []int64{v}
				} else {
					a.Key = ""
				}
			case 2:
				v := float64(g.r.IntN(100)) / 8
				value, a.ValueDouble = fmt.Sprintf(`{"doubleValue":%g}`, v), []float64{v}
			case 3:
				v := g.chance(0.5)
				value, a.ValueBool = fmt.Sprintf(`{"boolValue":%t}`, v), []bool{v}
			case 4:
				b := []byte(g.text())
				value = fmt.Sprintf(`{"bytesValue":%q}`, base64.StdEncoding.EncodeToString(b))
				a.ValueUnsupported = &value
			case 5, 6, 7: // a list of strings, of numbers or of nothing
				a.IsArray = true
				var elements []string
				var texts []string
				for range g.r.IntN(4) {
					switch typ {
					case 5:
						texts = append(texts, g.text())
						elements = append(elements, `{"stringValue":`+strconv.Quote(texts[len(texts)-1])+`}`)
					case 6:
						a.ValueInt = append(a.ValueInt, int64(g.r.IntN(9)))
						elements = append(elements, fmt.Sprintf(`{"intValue":"%d"}`, a.ValueInt[len(a.ValueInt)-1]))
					}
				}
				a.Value = texts
				value = `{"arrayValue":{"values":[` + join(elements) + `]}}`
				if len(texts) > 1 && own != nil && own(key, texts) {
					a.Key = ""
				}
			case 8: // no value
				value = `{}`
			}
			otlp = append(otlp, fmt.Sprintf(`{"key":%q,"value":%s}`, key, value))
			if a.Key != "" {
				rows = append(rows, a)
			}
		}
	}
	return otlp, rows
}

func join(list []string) string {
	var b bytes.Buffer
	for i, s := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(s)
	}
	return b.String()
}

// upTo returns a random number of at most n. 0 is rare, except where it makes no difference.
func (g *randomBlocks) upTo(n int) int {
	if g.chance(g.rare) {
		return 0
	}
	return 1 + g.r.IntN(n)
}

var (
	spanKeys     = []string{"http", "a", "b", "c", "d", "user", "user", "tags", "size", "session", "e", "f", "g"}
	resourceKeys = []string{"host", "pod", "x", "y", "zone"}
)

// row returns a row of a trace, and adds it to the sent data.
func (g *randomBlocks) row(t *testing.T, id [16]byte, most int) rowTrace {
	row := rowTrace{TraceID: id[:], StartTimeUnixNano: 1, EndTimeUnixNano: 1 << 60}
	var resources []string
	base := uint64(1_700_000_000_000_000_000)
	for range g.upTo(3) {
		var res rowResource
		dedicated := &res.Resource.DedicatedAttributes
		otlp, rows := g.attrs(3, true, resourceKeys, func(key string, v any) bool {
			text, ok := v.(string)
			if !ok || key != "host" || dedicated.String01 != nil {
				return false
			}
			dedicated.String01 = []string{text}
			return true
		})
		res.Resource.Attrs = rows
		if g.chance(0.9) {
			res.Resource.ServiceName = "s" + g.text()
			otlp = append(otlp, `{"key":"service.name","value":{"stringValue":"`+res.Resource.ServiceName+`"}}`)
		}
		var scopes []string
		for range g.upTo(2) {
			var scope rowScope
			scope.Scope.Name, scope.Scope.Version = g.text(), g.text()
			var spans []string
			for range g.upTo(most) {
				s := rowSpan{SpanID: make([]byte, 8), ParentSpanID: make([]byte, 8), Name: g.text(), Kind: int64(g.r.IntN(6)), StatusCode: int64(g.r.IntN(3))}
				binary.BigEndian.PutUint64(s.SpanID, 1+uint64(g.r.IntN(1+int(4/max(g.rare, 0.01)))))
				binary.BigEndian.PutUint64(s.ParentSpanID, uint64(g.r.IntN(20)))
				s.StartTimeUnixNano, s.DurationNano = base+uint64(g.r.IntN(1000)), uint64(g.r.IntN(1000))
				if g.chance(g.rare) {
					s.StatusMessage = g.text()
				}
				own := &s.DedicatedAttributes
				otlp, rows := g.attrs(8, false, g.keys, func(key string, v any) bool {
					switch v := v.(type) {
					case string:
						if key == "user" && own.String01 == nil {
							own.String01 = []string{v}
							return true
						}
					case []string:
						if key == "tags" && own.String02 == nil {
							own.String02 = v
							return true
						}
					case int64:
						if key == "size" && own.Int01 == nil {
							own.Int01 = []int64{v}
							return true
						}
					}
					return false
				})
				s.Attrs = rows
				var events, links []string
				for range max(g.r.IntN(8)-4, 0) {
					otlp, rows := g.attrs(3, true, g.keys, nil)
					e := rowEvent{TimeSinceStartNano: uint64(g.r.IntN(99)), Name: g.text(), Attrs: rows}
					s.Events = append(s.Events, e)
					events = append(events, fmt.Sprintf(`{"timeUnixNano":"%d","name":%q,"attributes":[%s]}`, s.StartTimeUnixNano+e.TimeSinceStartNano, e.Name, join(otlp)))
				}
				for range max(g.r.IntN(8)-6, 0) {
					otlp, rows := g.attrs(3, true, g.keys, nil)
					l := rowLink{TraceID: bytes.Repeat([]byte{byte(g.r.IntN(9))}, 16), SpanID: bytes.Repeat([]byte{byte(1 + g.r.IntN(9))}, 8), Attrs: rows}
					s.Links = append(s.Links, l)
					links = append(links, fmt.Sprintf(`{"traceId":%q,"spanId":%q,"attributes":[%s]}`, hex.EncodeToString(l.TraceID), hex.EncodeToString(l.SpanID), join(otlp)))
				}
				scope.Spans = append(scope.Spans, s)
				spans = append(spans, fmt.Sprintf(`{"traceId":"%x","spanId":"%x","parentSpanId":"%x","name":%q,"kind":%d,"startTimeUnixNano":"%d","endTimeUnixNano":"%d","status":{"code":%d,"message":%q},"attributes":[%s],"events":[%s],"links":[%s]}`,
					id, s.SpanID, s.ParentSpanID, s.Name, s.Kind, s.StartTimeUnixNano, s.StartTimeUnixNano+s.DurationNano, s.StatusCode, s.StatusMessage, join(otlp), join(events), join(links)))
			}
			res.Scopes = append(res.Scopes, scope)
			scopes = append(scopes, fmt.Sprintf(`{"scope":{"name":%q,"version":%q},"spans":[%s]}`, scope.Scope.Name, scope.Scope.Version, join(spans)))
		}
		row.Resources = append(row.Resources, res)
		resources = append(resources, fmt.Sprintf(`{"resource":{"attributes":[%s]},"scopeSpans":[%s]}`, join(otlp), join(scopes)))
	}
	td, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces([]byte(`{"resourceSpans":[` + join(resources) + `]}`))
	require.NoError(t, err)
	require.NoError(t, g.sent.Add(td))
	return row
}

// write writes rows as a block.
func (g *randomBlocks) write(t *testing.T, dir string, number int, rows []rowTrace) Meta {
	t.Helper()
	options := []parquet.WriterOption{parquet.PageBufferSize(1 << (4 + g.r.IntN(14))), parquet.DataPageVersion(2)}
	if g.chance(0.5) {
		options = append(options, parquet.DictionaryMaxBytes(int64(1+g.r.IntN(3000))))
	}
	var file bytes.Buffer
	w := parquet.NewGenericWriter[rowTrace](&file, options...)
	groups := 0
	for i := range rows {
		_, err := w.Write(rows[i : i+1])
		require.NoError(t, err)
		if groups < 3 && g.chance(2/float64(len(rows))) {
			require.NoError(t, w.Flush())
			groups++
		}
	}
	require.NoError(t, w.Close())
	m := Meta{Version: "vParquet5", ID: fmt.Sprintf("block-%d", number), Tenant: "single-tenant", Traces: len(rows), Size: int64(file.Len()), DedicatedColumns: dedicatedOfRows}
	dir = filepath.Join(dir, "single-tenant", m.ID)
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "data.parquet"), file.Bytes(), 0o644))
	meta, err := json.Marshal(m)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "meta.json"), meta, 0o644))
	return m
}

// For any blocks, pages, row groups and ranges of trace IDs, the read traces are equal to the sent ones.
func TestRandomBlocksGiveWhatWasSent(t *testing.T) {
	seeds := 60
	if testing.Short() {
		seeds = 20
	}
	defer func(n int) { manyKeys = n }(manyKeys)
	for seed := range seeds {
		r := rand.New(rand.NewPCG(uint64(seed), 11))
		g := &randomBlocks{r: r, rare: []float64{0, 0.002, 0.05, 0.3}[r.IntN(4)], texts: 1 + r.IntN(2000), keys: spanKeys}
		manyKeys = []int{4, 64}[seed%2] // both methods have the same result
		traces := 1 + r.IntN([]int{5, 100, 500}[r.IntN(3)])
		ids := make([][16]byte, traces)
		for i := range ids {
			for j := range ids[i] {
				ids[i][j] = byte(r.Uint32())
			}
		}
		slices.SortFunc(ids, func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) })
		dir := t.TempDir()
		var metas []Meta
		for number := range 1 + r.IntN(3) {
			var rows []rowTrace
			for _, id := range ids {
				if most := 1 + r.IntN(12); number == 0 || g.chance(0.3) {
					rows = append(rows, g.row(t, id, most))
				}
			}
			if len(rows) > 0 {
				metas = append(metas, g.write(t, dir, number, rows))
			}
		}
		want := map[trace.ID]*trace.Trace{}
		name := ""
		for _, tr := range g.sent.Traces() {
			want[tr.ID] = tr
			name = tr.Spans[r.IntN(len(tr.Spans))].Name
		}

		for try := range 5 {
			what := fmt.Sprintf("seed %d, reading %d: %d traces in %d blocks", seed, try, traces, len(metas))
			store, err := OpenFolder(t.Context(), dir)
			require.NoError(t, err)
			req := Request{Needs: columnar.Needs{All: true}}
			if try > 0 { // only some attributes
				req.Needs = columnar.Needs{StatusMessage: true}
				for _, key := range g.keys {
					if g.chance(0.3) {
						req.Needs.Attributes = append(req.Needs.Attributes, columnar.AttributeKey{Scope: columnar.ScopeSpan, Key: key})
					}
				}
				for _, key := range append(resourceKeys, "service.name") {
					if g.chance(0.5) {
						req.Needs.Attributes = append(req.Needs.Attributes, columnar.AttributeKey{Scope: columnar.ScopeResource, Key: key})
					}
				}
			}
			if try > 2 {
				req.Filter, err = traceql.Parse(`{ name = ` + strconv.Quote(name) + ` }`)
				require.NoError(t, err)
			}
			store.near = r.IntN(3) > 0
			rd := &reading{store: store, req: req, stats: &readStats{mostWords: int64(r.IntN(2)) << 30}, to: ^trace.Time(0)}
			require.NoError(t, rd.open(t.Context(), metas))
			require.Empty(t, rd.report.Problems, what)
			got := map[trace.ID]*trace.Trace{}
			f := rd.filling()
			for _, ids := range randomRanges(r) {
				b, _, _, err := f.read(t.Context(), rd.blocks, ids)
				require.NoError(t, err, what)
				for i := range numTraces(b) {
					require.Nil(t, got[b.IDs[i]], what)
					got[b.IDs[i]] = b.Trace(i)
				}
			}
			for _, release := range rd.release {
				require.NoError(t, release())
			}
			require.NoError(t, store.Close())
			for id, tr := range want {
				if got[id] == nil {
					require.True(t, req.Filter != nil && !req.Filter.Matches(tr), "%s: trace %s is missing", what, id)
					continue
				}
				if req.Needs.All {
					require.Equal(t, tr.Flags, got[id].Flags, "%s: trace %s", what, id)
					if diff := cmp.Diff(tr.Spans, got[id].Spans); diff != "" {
						t.Fatalf("%s: trace %s (-sent +read):\n%.3000s", what, id, diff)
					}
					continue
				}
				require.Len(t, got[id].Spans, len(tr.Spans))
				for i := range tr.Spans {
					sent, read := &tr.Spans[i], &got[id].Spans[i]
					require.Equal(t, sent.ID, read.ID, what)
					require.Equal(t, sent.Name, read.Name, what)
					require.Equal(t, sent.StatusMessage, read.StatusMessage, what)
					for _, a := range req.Needs.Attributes {
						x, y := sent.Attributes.Get(a.Key), read.Attributes.Get(a.Key)
						if a.Scope == columnar.ScopeResource {
							x, y = sent.Resource.Get(a.Key), read.Resource.Get(a.Key)
						}
						require.True(t, x.Equal(y), "%s: trace %s, span %s: %v is %s, but was sent as %s", what, id, sent.ID, a, y, x)
					}
				}
			}
			require.LessOrEqual(t, len(got), len(want), what)
		}
	}
}

func numTraces(b *columnar.Batch) int {
	if b == nil {
		return 0
	}
	return b.NumTraces()
}

// randomRanges divides the trace IDs at random.
func randomRanges(r *rand.Rand) (ranges []idRange) {
	cuts := make([]trace.ID, r.IntN(6))
	for i := range cuts {
		binary.BigEndian.PutUint64(cuts[i][:], r.Uint64())
	}
	slices.SortFunc(cuts, trace.ID.Compare)
	current := idRange{}
	for _, cut := range cuts {
		current.to = cut
		ranges = append(ranges, current)
		current = idRange{from: cut}
	}
	current.last = true
	return append(ranges, current)
}
