package schedulertest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/parquet-go/parquet-go"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/tempoclient/blocks"
)

// The columns of vParquet5 that hold the generated data (tempodb/encoding/vparquet5/schema.go in Tempo).
type (
	rowTrace struct {
		TraceID           []byte
		StartTimeUnixNano uint64        `parquet:",delta"`
		EndTimeUnixNano   uint64        `parquet:",delta"`
		Resources         []rowResource `parquet:"rs"`
	}
	rowResource struct {
		Resource struct {
			ServiceName string `parquet:",snappy,dict"`
			Attrs       []rowAttr
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
		SpanID            []byte
		ParentSpanID      []byte
		Name              string `parquet:",snappy,dict"`
		Kind              int64  `parquet:",delta"`
		StartTimeUnixNano uint64 `parquet:",delta"`
		DurationNano      uint64 `parquet:",delta"`
		StatusCode        int64  `parquet:",delta"`
		StatusMessage     string `parquet:",snappy,dict"`
		Attrs             []rowAttr
		Events            []rowEvent
		Links             []rowLink
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

// addBatch adds the spans of a message to the row of their trace.
func (row *rowTrace) addBatch(td ptrace.Traces) error {
	for _, rs := range td.ResourceSpans().All() {
		var resource rowResource
		attrs, err := rowAttrs(rs.Resource().Attributes())
		if err != nil {
			return err
		}
		resource.Resource.Attrs = slices.DeleteFunc(attrs, func(a rowAttr) bool {
			isName := a.Key == "service.name" && len(a.Value) == 1 && !a.IsArray
			if isName {
				resource.Resource.ServiceName = a.Value[0]
			}
			return isName
		})
		for _, ss := range rs.ScopeSpans().All() {
			var scope rowScope
			scope.Scope.Name, scope.Scope.Version = ss.Scope().Name(), ss.Scope().Version()
			for _, s := range ss.Spans().All() {
				span, err := newRowSpan(s)
				if err != nil {
					return err
				}
				scope.Spans = append(scope.Spans, span)
				start, end := span.StartTimeUnixNano, span.StartTimeUnixNano+span.DurationNano
				if row.EndTimeUnixNano == 0 || start < row.StartTimeUnixNano {
					row.StartTimeUnixNano = start
				}
				row.EndTimeUnixNano = max(row.EndTimeUnixNano, end)
			}
			resource.Scopes = append(resource.Scopes, scope)
		}
		row.Resources = append(row.Resources, resource)
	}
	return nil
}

func newRowSpan(s ptrace.Span) (row rowSpan, err error) {
	id, parent := s.SpanID(), s.ParentSpanID()
	start, end := uint64(s.StartTimestamp()), uint64(s.EndTimestamp())
	if end < start {
		return rowSpan{}, fmt.Errorf("span %s ends before it starts, which has no form in a block", id)
	}
	row = rowSpan{
		SpanID: id[:], Name: s.Name(), Kind: int64(s.Kind()), StartTimeUnixNano: start, DurationNano: end - start,
		StatusCode: int64(s.Status().Code()), StatusMessage: s.Status().Message(),
	}
	if !parent.IsEmpty() {
		row.ParentSpanID = parent[:]
	}
	if row.Attrs, err = rowAttrs(s.Attributes()); err != nil {
		return row, err
	}
	for _, e := range s.Events().All() {
		if uint64(e.Timestamp()) < start {
			return row, fmt.Errorf("span %s has an event before its start, which has no form in a block", id)
		}
		event := rowEvent{TimeSinceStartNano: uint64(e.Timestamp()) - start, Name: e.Name()}
		if event.Attrs, err = rowAttrs(e.Attributes()); err != nil {
			return row, err
		}
		row.Events = append(row.Events, event)
	}
	for _, l := range s.Links().All() {
		trace, span := l.TraceID(), l.SpanID()
		link := rowLink{TraceID: trace[:], SpanID: span[:]}
		if link.Attrs, err = rowAttrs(l.Attributes()); err != nil {
			return row, err
		}
		row.Links = append(row.Links, link)
	}
	return row, nil
}

var errNoForm = errors.New("a value of this type is not supported")

func rowAttrs(m pcommon.Map) (rows []rowAttr, err error) {
	for key, v := range m.All() {
		row := rowAttr{Key: key}
		values := []pcommon.Value{v}
		if v.Type() == pcommon.ValueTypeSlice {
			row.IsArray, values = true, nil
			for _, element := range v.Slice().All() {
				values = append(values, element)
			}
		}
		for _, v := range values {
			switch v.Type() {
			case pcommon.ValueTypeStr:
				row.Value = append(row.Value, v.Str())
			case pcommon.ValueTypeInt:
				row.ValueInt = append(row.ValueInt, v.Int())
			case pcommon.ValueTypeDouble:
				row.ValueDouble = append(row.ValueDouble, v.Double())
			case pcommon.ValueTypeBool:
				row.ValueBool = append(row.ValueBool, v.Bool())
			default:
				return nil, fmt.Errorf("attribute %s: %w: %s", key, errNoForm, v.Type())
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// files are the contents of a block's folder.
type files struct{ data, meta []byte }

// encode returns the files of a block with the rows. It completes the meta, except for times that are set.
func encode(rows []rowTrace, m blocks.Meta) (files, blocks.Meta, error) {
	slices.SortFunc(rows, func(a, b rowTrace) int { return bytes.Compare(a.TraceID, b.TraceID) })
	var data bytes.Buffer
	w := parquet.NewGenericWriter[rowTrace](&data, parquet.DataPageVersion(2))
	if _, err := w.Write(rows); err != nil {
		return files{}, m, err
	}
	if err := w.Close(); err != nil {
		return files{}, m, err
	}
	if m.Start.IsZero() {
		for i := range rows {
			start, end := time.Unix(0, int64(rows[i].StartTimeUnixNano)), time.Unix(0, int64(rows[i].EndTimeUnixNano))
			if i == 0 || start.Before(m.Start) {
				m.Start = start.UTC()
			}
			if i == 0 || end.After(m.End) {
				m.End = end.UTC()
			}
		}
	}
	m.Version, m.Traces, m.Size = "vParquet5", len(rows), int64(data.Len())
	m.FooterSize = int64(binary.LittleEndian.Uint32(data.Bytes()[data.Len()-8:])) // it precedes the magic number
	meta, err := json.Marshal(m)
	return files{data.Bytes(), meta}, m, err
}

// write writes the files of a block, with a modification time. meta.json is last, as Tempo writes it.
func (f files) write(dir string, at time.Time) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, file := range []struct {
		name    string
		content []byte
	}{{"data.parquet", f.data}, {"meta.json", f.meta}} {
		path := filepath.Join(dir, file.name)
		if err := os.WriteFile(path, file.content, 0o644); err != nil {
			return err
		}
		if err := os.Chtimes(path, at, at); err != nil {
			return err
		}
	}
	return nil
}

// markCompacted renames the meta.json of a block, as Tempo's compactor does.
func markCompacted(dir string, at time.Time) error {
	path := filepath.Join(dir, "meta.compacted.json")
	if err := os.Rename(filepath.Join(dir, "meta.json"), path); err != nil {
		return err
	}
	return os.Chtimes(path, at, at)
}
