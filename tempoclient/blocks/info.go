package blocks

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/betracehq/betrace/analyzer/trace"
	"github.com/betracehq/betrace/tempoclient/traceql"
)

// Info is what a block's footer says of it.
type Info struct {
	Meta
	// Spans counts its spans, copies of one too; RowGroups its row groups.
	Spans     int64
	RowGroups int
	// Earliest and Latest bound the times of its spans; zero if the file does not say.
	Earliest, Latest time.Time
	// Bytes is the size of its data.
	Bytes int64

	columnBytes map[string]int64 // by path, compressed
}

// Inspect reads a block's footer.
func (s *Store) Inspect(ctx context.Context, m Meta) (Info, error) {
	b, err := s.open(ctx, m, &readStats{})
	if err != nil {
		return Info{}, fmt.Errorf("block %s: %w", m.ID, err)
	}
	info := Info{Meta: m, Spans: b.spans, RowGroups: len(b.file.RowGroups()), Bytes: b.file.Size(), columnBytes: map[string]int64{}}
	if b.latest > 0 {
		info.Earliest, info.Latest = b.earliest.Time(), b.latest.Time()
	}
	for path, l := range b.cols {
		for _, g := range b.file.Metadata().RowGroups {
			info.columnBytes[path] += g.Columns[l.index].MetaData.TotalCompressedSize
		}
	}
	return info, nil
}

// Needed returns how many bytes of the block are read for the needs, its footer not
// counted.
func (i *Info) Needed(needs trace.Needs) int64 {
	sum := int64(0)
	for path := range i.neededColumns(needs) {
		sum += i.columnBytes[path]
	}
	return sum
}

// neededColumns returns the paths of the columns that are read for the needs.
func (i *Info) neededColumns(needs trace.Needs) map[string]bool {
	return neededColumns(slices.Collect(maps.Keys(i.columnBytes)), i.DedicatedColumns, needs)
}

// neededColumns returns which of a file's columns are read for the needs.
func neededColumns(all []string, dedicated []DedicatedColumn, needs trace.Needs) map[string]bool {
	paths := map[string]bool{"TraceID": true, pathResource + "ServiceName": true}
	for _, name := range []string{"SpanID", "ParentSpanID", "StartTimeUnixNano", "DurationNano", "Kind", "StatusCode", "Name"} {
		paths[pathSpan+name] = true
	}
	if needs.All || needs.StatusMessage {
		paths[pathSpan+"StatusMessage"] = true
	}
	if needs.All || needs.Instrumentation {
		paths[pathScope+"Name"], paths[pathScope+"Version"] = true, true
	}
	if needs.ReadsEvents() {
		paths[pathEvent+"Name"], paths[pathEvent+"TimeSinceStartNano"] = true, true
	}
	if needs.ReadsLinks() {
		paths[pathLink+"TraceID"], paths[pathLink+"SpanID"] = true, true
	}
	for _, scope := range attributeScopes {
		need := keysOf(&needs, scope.scope)
		if need.none() {
			continue
		}
		own := ownColumns(all, dedicated, scope.scope)
		for _, path := range all {
			if name, ok := strings.CutPrefix(path, scope.path+"Attrs."); ok && !strings.Contains(name, ".") {
				paths[path] = true
			}
			if key, ok := own[path]; ok && need.has(key) {
				paths[path] = true
			}
		}
	}
	return paths
}

// Generic returns the needed attributes, as TraceQL names them, that have no column
// of their own in the block and could have one: they are read from the columns of all.
func (i *Info) Generic(needs trace.Needs) []string {
	var names []string
	for _, scope := range attributeScopes[:2] { // spans and resources
		own := map[string]bool{trace.ServiceName: true}
		for _, key := range ownColumns(slices.Collect(maps.Keys(i.columnBytes)), i.DedicatedColumns, scope.scope) {
			own[key] = true
		}
		for _, f := range needs.Attributes {
			// What is asked of either is nearly always the span's.
			isHere := f.Scope == scope.scope || f.Scope == trace.ScopeAny && scope.scope == trace.ScopeSpan
			if isHere && !own[f.Key] {
				names = append(names, traceql.Attribute(scope.scope, f.Key).String())
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// ownColumns returns the columns of single attributes of a scope, by their paths.
func ownColumns(all []string, dedicated []DedicatedColumn, scope trace.Scope) map[string]string {
	own := map[string]string{}
	for _, s := range attributeScopes {
		if s.scope != scope {
			continue
		}
		for column, key := range wellKnown[s.path] {
			if slices.Contains(all, s.path+column) {
				own[s.path+column] = key
			}
		}
		eachDedicated(dedicated, scope, func(column string, c DedicatedColumn) {
			own[s.path+column] = c.Name
		})
	}
	return own
}
