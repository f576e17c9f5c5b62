package blocks

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/traceql"
)

// Info contains information from a block's footer.
type Info struct {
	Meta
	BlockTimes
	// RowGroups counts its row groups.
	RowGroups int

	columnBytes map[string]int64 // compressed, by path
	// shared are the keys in the shared attribute columns of spans and resources. It is nil if the file
	// does not list them.
	shared map[columnar.Scope]map[string]bool
}

// Inspect reads a block's footer, and the keys of its attributes.
func (s *Store) Inspect(ctx context.Context, m Meta) (Info, error) {
	b, err := s.open(ctx, m, &readStats{})
	if err != nil {
		return Info{}, fmt.Errorf("block %s: %w", m.ID, err)
	}
	info := Info{Meta: m, BlockTimes: b.blockTimes(), RowGroups: len(b.chunks), columnBytes: map[string]int64{}}
	for path, l := range b.cols {
		for _, group := range b.chunks {
			info.columnBytes[path] += group[l.index].bytes()
		}
	}
	if info.shared, err = b.sharedKeys(ctx); err != nil {
		return Info{}, fmt.Errorf("block %s: %w", m.ID, err)
	}
	return info, nil
}

// sharedKeys reads the keys in the shared attribute columns from the dictionaries of the key columns.
func (b *block) sharedKeys(ctx context.Context) (shared map[columnar.Scope]map[string]bool, err error) {
	defer recovered(&err)
	shared = map[columnar.Scope]map[string]bool{}
	for _, scope := range attributeScopes[:2] {
		keys := map[string]bool{}
		for g := range b.chunks {
			s := &segment{b: b, in: &pageReader{in: b.object.readerAt(ctx)}, group: g}
			l, err := s.leaf(scope.path + "Attrs.Key")
			if err != nil {
				return nil, err
			}
			dict, err := l.words(s)
			if err != nil {
				return nil, fmt.Errorf("column %sAttrs.Key: %w", scope.path, err)
			}
			if dict == nil {
				keys = nil
				break
			}
			for i := range dict.len() {
				keys[string(dict.word(int32(i)))] = true
			}
		}
		shared[scope.scope] = keys
	}
	return shared, nil
}

// Needed returns the number of bytes that are read from the block for the needs if no filter excludes
// traces, without its footer and page indexes.
func (i *Info) Needed(needs columnar.Needs) int64 {
	sum := int64(0)
	for path := range i.neededColumns(needs) {
		sum += i.columnBytes[path]
	}
	for _, scope := range attributeScopes[:2] {
		// If no needed key is among them, only the keys are read.
		need, keys := keysOf(&needs, scope.scope), i.shared[scope.scope]
		if !need.none() && keys != nil && !slices.ContainsFunc(slices.Collect(maps.Keys(keys)), need.has) {
			sum -= i.sharedBytes(scope.path)
		}
	}
	return sum
}

// sharedBytes returns the size of a scope's shared attribute columns without the column of keys.
func (i *Info) sharedBytes(path string) int64 {
	sum := int64(0)
	for column, n := range i.columnBytes {
		if name, ok := strings.CutPrefix(column, path+"Attrs."); ok && name != "Key" {
			sum += n
		}
	}
	return sum
}

// Shared returns how many of the needed bytes are in the shared columns of attributes without dedicated
// columns. They would not be read if the attributes of [Info.Generic] had dedicated columns. The column
// of keys does not count, because it is also read to look for values of other types.
func (i *Info) Shared(needs columnar.Needs) int64 {
	sum := int64(0)
	for _, scope := range attributeScopes[:2] {
		_, whole := needs.Reads(scope.scope)
		if whole || len(i.genericOf(needs, scope.scope)) == 0 {
			continue
		}
		sum += i.sharedBytes(scope.path)
	}
	return sum
}

// neededColumns returns the paths of the columns that are read for the needs.
func (i *Info) neededColumns(needs columnar.Needs) map[string]bool {
	return neededColumns(slices.Collect(maps.Keys(i.columnBytes)), i.DedicatedColumns, needs)
}

// neededColumns returns the columns of a file that are read for the needs.
func neededColumns(all []string, dedicated []DedicatedColumn, needs columnar.Needs) map[string]bool {
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

// Generic returns the needed attributes, named as in TraceQL, that the block contains and that have no
// dedicated column. They are read from the shared columns.
func (i *Info) Generic(needs columnar.Needs) []string {
	var names []string
	for _, scope := range attributeScopes[:2] { // spans and resources
		names = append(names, i.genericOf(needs, scope.scope)...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (i *Info) genericOf(needs columnar.Needs, scope columnar.Scope) []string {
	own := map[string]bool{trace.ServiceName: true}
	for _, key := range ownColumns(slices.Collect(maps.Keys(i.columnBytes)), i.DedicatedColumns, scope) {
		own[key] = true
	}
	keys := i.shared[scope]
	var names []string
	for _, f := range needs.Attributes {
		// Attributes of either scope nearly always belong to the span.
		isHere := f.Scope == scope || f.Scope == columnar.ScopeAny && scope == columnar.ScopeSpan
		if isHere && !own[f.Key] && (keys == nil || keys[f.Key]) {
			names = append(names, traceql.Attribute(scope, f.Key).String())
		}
	}
	return names
}

// ownColumns returns the columns for single attributes of a scope, by their paths.
func ownColumns(all []string, dedicated []DedicatedColumn, scope columnar.Scope) map[string]string {
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
