package blocks_test

import (
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"gocloud.dev/blob/fileblob"

	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/traceql"
)

// A prefilter excludes no matching trace, and delivered traces are whole.
func TestAFilterLeavesOutOnlyWhatDoesNotMatch(t *testing.T) {
	store, _ := fixture(t)
	all, full := readAll(t, store, blocks.Request{Needs: columnar.Needs{All: true}})
	words := map[string][]string{}
	for _, tr := range all {
		for _, s := range tr.Spans {
			words["name"] = append(words["name"], s.Name)
			words["resource.service.name"] = append(words["resource.service.name"], s.Service())
			for _, key := range []string{"http.request.method", "url.path", "tags", "k8s.cluster.name", "retry.count"} {
				if v := s.Attribute(key); v.Type() == trace.TypeString {
					words["."+key] = append(words["."+key], v.Str())
					words["span."+key] = append(words["span."+key], v.Str())
				}
			}
		}
	}
	queries := []string{`{ name = "no such span" }`, `{ span.url.path = "/nowhere" }`, `{ .zzz = "x" }`, `{ resource.k8s.cluster.name =~ ".*" }`, `{ name != "" }`, `{ }`}
	for field, texts := range words {
		slices.Sort(texts)
		texts = slices.Compact(texts)
		words[field] = texts
		require.NotEmpty(t, texts, field)
		for _, text := range texts[len(texts)/2:][:1] {
			queries = append(queries,
				`{ `+field+` = `+quote(text)+` }`, `{ `+field+` != `+quote(text)+` }`, `{ `+field+` > `+quote(text)+` }`,
				`{ `+field+` = `+quote(text)+` && name =~ ".*[aeiou]" }`, `{ `+field+` = `+quote(text)+` || name = "no such span" }`,
				`{ `+field+` = `+quote(text)+` && duration > 1ms }`, `{ `+field+` < "b" || `+field+` = `+quote(text)+` || name = "no such span" || `+field+` > "y" }`, `{ `+field+` = `+quote(text)+` || duration > 1h }`)
		}
	}
	// Conditions on several columns: each trace that meets one of them, or all.
	for a, as := range words {
		for b, bs := range words {
			if a < b {
				x, y := a+` = `+quote(as[0]), b+` = `+quote(bs[len(bs)-1])
				queries = append(queries, `{ `+x+` || `+y+` }`, `{ `+x+` && `+y+` }`)
			}
		}
	}
	_, opening := readAll(t, store, blocks.Request{To: time.Unix(1, 0)}) // footers, which are most of small files
	require.Equal(t, 3, opening.Left)
	left, fewer := 0, 0
	for _, query := range queries {
		f, err := traceql.Parse(query)
		require.NoError(t, err, query)
		got, report := readAll(t, store, blocks.Request{Needs: columnar.Needs{All: true}, Filter: f})
		require.Empty(t, report.Problems, query)
		require.LessOrEqual(t, report.Requests, 2*full.Requests, "%s: pages must not be read repeatedly", query)
		for id, tr := range all {
			if got[id] == nil {
				require.False(t, f.Matches(tr), "%s excludes trace %s", query, id)
				left++
				continue
			}
			require.Len(t, got[id].Spans, len(tr.Spans), query)
		}
		if report.Bytes-opening.Bytes < (full.Bytes-opening.Bytes)/2 {
			fewer++
		}
	}
	require.Greater(t, left, len(all)*len(queries)/5, "filters must exclude some traces")
	require.Positive(t, fewer)
	t.Logf("%d queries: %d of %d traces excluded", len(queries), left, len(all)*len(queries))
}

func quote(s string) string { return strconv.Quote(s) }

// New traces are all traces with a span in a block that was not judged. They are delivered whole.
func TestWhatIsNewComesWithAllItsSpans(t *testing.T) {
	store, _ := fixture(t)
	needs := columnar.Needs{All: true}
	all, report := readAll(t, store, blocks.Request{Needs: needs})
	in := map[string]map[trace.ID]bool{} // by block: the traces with spans in it
	for _, m := range report.Blocks {
		got, _ := readAll(t, store, blocks.Request{Needs: needs, Judged: func(id string) bool { return id != m.ID }})
		in[m.ID] = map[trace.ID]bool{}
		for id := range got {
			in[m.ID][id] = true
		}
		require.Len(t, got, m.Traces, "block %s", m.ID)
	}
	none, _ := readAll(t, store, blocks.Request{Needs: needs, Judged: func(string) bool { return true }})
	require.Empty(t, none)
	for _, old := range report.Blocks {
		seen, known := 0, 0
		_, err := store.Batches(t.Context(), blocks.Request{Needs: needs, MemoryBytes: 1, Judged: func(id string) bool { return id == old.ID }}, func(b *columnar.Batch) error {
			for i, id := range b.IDs {
				seen++
				require.Equal(t, in[old.ID][id], b.Known.Has(int32(i)), "trace %s, block %s", id, old.ID)
				if b.Known.Has(int32(i)) {
					known++
				}
				require.Empty(t, cmp.Diff(all[id].Spans, b.Trace(i).Spans))
			}
			return nil
		})
		require.NoError(t, err)
		want := map[trace.ID]bool{}
		for id, ids := range in {
			for trace := range ids {
				if id != old.ID {
					want[trace] = true
				}
			}
		}
		require.Equal(t, len(want), seen, "without block %s", old.ID)
		require.Positive(t, known)
	}
}

// A prefilter excludes no new trace that matches, also if only its spans in judged blocks match.
func TestAFilterOfNewTracesConsidersAllTheirSpans(t *testing.T) {
	near, _ := fixture(t)
	bucket, err := fileblob.OpenBucket(fixtureDir, nil)
	require.NoError(t, err)
	distant := blocks.NewStore(bucket, "a distant folder")
	defer func() { require.NoError(t, distant.Close()) }()
	excluded, elsewhere := 0, 0
	for _, store := range []*blocks.Store{near, distant} {
		req := blocks.Request{Needs: columnar.Needs{All: true}}
		all, report := readAll(t, store, req)
		for _, m := range report.Blocks {
			req := req
			own, _ := readAll(t, store, blocks.Request{Needs: columnar.Needs{All: true}, LeaveOut: allBut(m.ID)})
			names := map[string]bool{}
			for id := range own {
				for _, s := range all[id].Spans {
					names[s.Name] = true
				}
			}
			sorted := slices.Sorted(maps.Keys(names))
			for i := 0; i < len(sorted); i += 1 + len(sorted)/6 {
				f, err := traceql.Parse(`{ name = ` + quote(sorted[i]) + ` }`)
				require.NoError(t, err)
				req.Filter, req.Judged, req.MemoryBytes = f, allBut(m.ID), int64(i%2)
				got, report := readAll(t, store, req)
				require.Empty(t, report.Problems)
				for id := range own {
					if got[id] == nil {
						require.False(t, f.Matches(all[id]), "trace %s has a span %s", id, sorted[i])
						excluded++
						continue
					}
					require.True(t, reflect.DeepEqual(all[id].Spans, got[id].Spans), "trace %s", id)
					if !f.Matches(own[id]) {
						elsewhere++
					}
				}
				for id := range got {
					require.NotNil(t, own[id], "trace %s is not new", id)
				}
			}
		}
	}
	require.Positive(t, excluded)
	require.Positive(t, elsewhere)
}

// Reading ahead from remote storage returns the same traces.
func TestDistantStorageGivesTheSame(t *testing.T) {
	near, _ := fixture(t)
	bucket, err := fileblob.OpenBucket("testdata/vparquet5", nil)
	require.NoError(t, err)
	distant := blocks.NewStore(bucket, "a distant folder")
	defer func() { require.NoError(t, distant.Close()) }()
	rare, err := traceql.Parse(`{ name = "GET /cart" || span.url.path = "/cart" }`)
	require.NoError(t, err)
	for name, req := range map[string]blocks.Request{
		"all":        {Needs: columnar.Needs{All: true}},
		"in parts":   {Needs: columnar.Needs{All: true}, MemoryBytes: 1, SpoolBytes: 200_000},
		"few fields": {MemoryBytes: 1},
		"a filter":   {Needs: columnar.Needs{All: true}, Filter: rare},
		"what is new": {Needs: columnar.Needs{All: true}, MemoryBytes: 1, Judged: func(id string) bool {
			return id != "0bbebe00-5d53-42ce-b219-aac987622c8d"
		}},
	} {
		want, _ := readAll(t, near, req)
		req.SpoolDir = t.TempDir()
		requests := int64(0)
		for _, bytes := range []int64{0, 3000} { // bytes of one request for reading ahead
			got, report := readAll(t, distant.InParts(bytes), req)
			require.Empty(t, report.Problems, name)
			require.Len(t, got, len(want), name)
			for id := range want {
				require.Empty(t, cmp.Diff(want[id].Spans, got[id].Spans), name)
			}
			require.Greater(t, report.Requests, requests, name)
			requests = report.Requests
		}
		left, err := os.ReadDir(req.SpoolDir)
		require.NoError(t, err)
		require.Empty(t, left, name)
	}
	_, err = distant.Traces(t.Context(), blocks.Request{SpoolDir: "/nowhere"}, func(*trace.Trace) error { return nil })
	require.ErrorContains(t, err, "create a file for reading ahead")
}

// Space for data that was read ahead is released after the data was read, not at the end. At most three
// of any number of parts that are read ahead together are held.
func TestWhatWasReadAheadIsGivenBack(t *testing.T) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("open files are counted in /proc")
	}
	bucket, err := fileblob.OpenBucket("testdata/vparquet5", nil)
	require.NoError(t, err)
	distant := blocks.NewStore(bucket, "a distant folder")
	defer func() { require.NoError(t, distant.Close()) }()
	dir := t.TempDir()
	most, batches := 0, 0
	_, err = distant.Batches(t.Context(), blocks.Request{Needs: columnar.Needs{All: true}, MemoryBytes: 1, SpoolBytes: 1, SpoolDir: dir, Workers: 1}, func(*columnar.Batch) error {
		batches++
		open := 0
		files, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		for _, f := range files {
			if name, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil && strings.HasPrefix(name, dir) {
				open++
			}
		}
		most = max(most, open)
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, batches, 3)
	require.Positive(t, most)
	require.LessOrEqual(t, most, 3*blocks.SpoolFiles)
}

// A range ends at its end, and traces outside it have no effect on those inside.
func TestARangeGivesWhatStartsInIt(t *testing.T) {
	store, _ := fixture(t)
	all, _ := readAll(t, store, blocks.Request{Needs: columnar.Needs{All: true}})
	starts := make([]trace.Time, 0, len(all))
	for _, tr := range all {
		starts = append(starts, tr.Start())
	}
	slices.Sort(starts)
	from, to := starts[len(starts)/4], starts[3*len(starts)/4]
	for _, memory := range []int64{0, 1} {
		got, report := readAll(t, store, blocks.Request{Needs: columnar.Needs{All: true}, From: from.Time(), To: to.Time(), MemoryBytes: memory})
		require.Empty(t, report.Problems)
		for id, tr := range all {
			if tr.Start() < from || tr.Start() >= to {
				require.Nil(t, got[id], "trace %s starts outside", id)
				continue
			}
			require.NotNil(t, got[id], "trace %s", id)
			require.Empty(t, cmp.Diff(tr.Spans, got[id].Spans))
		}
		require.Equal(t, len(all)-len(got), report.OutsideRange)
	}
}

// Reading ahead for a range, and for the traces that pass a filter, returns the same traces.
func TestDistantBlocksGiveTheSame(t *testing.T) {
	store, _ := fixture(t)
	bucket, err := fileblob.OpenBucket("testdata/vparquet5", nil)
	require.NoError(t, err)
	distant := blocks.NewStore(bucket, "a distant folder")
	defer func() { require.NoError(t, distant.Close()) }()
	listing, err := store.List(t.Context(), "")
	require.NoError(t, err)
	all, _ := readAll(t, store, blocks.Request{Needs: columnar.Needs{All: true}})
	some := []columnar.Needs{{}, {All: true}}
	for _, c := range listing.Live[0].DedicatedColumns {
		some = append(some, columnar.Needs{Attributes: []columnar.AttributeKey{{Scope: map[string]columnar.Scope{"": columnar.ScopeSpan, "resource": columnar.ScopeResource, "event": columnar.ScopeEvent}[c.Scope], Key: c.Name}}})
	}
	require.Greater(t, len(some), 3)
	for _, query := range []string{"{ }", `{ .url.path = "/v1/things/36" }`, `{ name =~ ".*a.*" && resource.k8s.cluster.name != "x" }`, `{ .tags = "a" }`} {
		filter, err := traceql.Parse(query)
		require.NoError(t, err)
		for _, needs := range some {
			req := blocks.Request{Needs: needs, Filter: filter, MemoryBytes: 1, Workers: 4}
			want, _ := readAll(t, store, req)
			got, report := readAll(t, distant, req)
			require.Empty(t, report.Problems, query)
			require.Len(t, got, len(want), query)
			for id := range want {
				require.Empty(t, cmp.Diff(want[id].Spans, got[id].Spans), query)
				for i, s := range got[id].Spans {
					for _, a := range needs.Attributes {
						whole := all[id].Spans[i]
						require.Equal(t, whole.Attributes.Get(a.Key), s.Attributes.Get(a.Key), "%s, %s", query, a.Key)
						require.Equal(t, whole.Resource.Get(a.Key), s.Resource.Get(a.Key), "%s, %s", query, a.Key)
					}
				}
			}
		}
	}
}
