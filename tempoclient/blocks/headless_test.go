package blocks_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace/columnar"
)

// A block with data but without a meta.json is a problem, unless Tempo is writing or deleting it.
func TestDataWithoutMetaJSONIsAProblemUnlessItIsBeingWritten(t *testing.T) {
	const data = "t/b-0/data.parquet"
	for _, tt := range []struct {
		name    string
		body    string
		age     time.Duration
		at      func(b *bucket, list int) // called before each listing
		problem bool
		live    []string
	}{
		{name: "an old one", body: "PAR1PAR1", age: time.Hour, problem: true, live: []string{"a-0"}},
		{name: "an old one without an end", body: "PAR1 and", age: time.Hour, problem: true, live: []string{"a-0"}},
		{name: "an empty old one", age: time.Hour, problem: true, live: []string{"a-0"}},
		{name: "a young one", body: "PAR1PAR1", problem: true, live: []string{"a-0"}},
		{name: "one that is being written", body: "PAR1 and", age: 5 * time.Minute, live: []string{"a-0"}},
		{name: "one that is begun", live: []string{"a-0"}},
		{name: "one that gets its meta.json", body: "PAR1PAR1", live: []string{"a-0", "b-0"}, at: func(b *bucket, list int) {
			if list == 5 { // two listings and two checks
				b.write("b-0")
			}
		}},
		{name: "an old one that is being deleted", body: "PAR1PAR1", age: time.Hour, live: []string{"a-0"}, at: func(b *bucket, list int) {
			if list == 3 {
				b.remove(data)
			}
		}},
		{name: "one that was being deleted in the first listing", body: "PAR1PAR1", age: time.Hour, live: []string{"a-0"}, at: func(b *bucket, list int) {
			if list == 2 {
				b.remove(data)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := &bucket{objects: map[string][]byte{data: []byte(tt.body)}, modified: map[string]time.Time{data: time.Now().Add(-tt.age)}}
			b.write("a-0")
			lists := 0
			b.hook = func(r request) fault {
				if r.op == "list" {
					lists++
					if tt.at != nil {
						tt.at(b, lists)
					}
				}
				return fault{}
			}
			listing, err := blocks.NewStore(b.open(), "memory").Impatient(time.Millisecond, time.Second).List(t.Context(), "t")
			require.NoError(t, err)
			require.False(t, listing.Unstable)
			var live []string
			for _, m := range listing.Live {
				live = append(live, m.ID)
			}
			require.Equal(t, tt.live, live)
			if !tt.problem {
				require.Empty(t, listing.Problems)
				return
			}
			require.Len(t, listing.Problems, 1)
			require.Equal(t, "block b-0", listing.Problems[0].What)
			require.ErrorContains(t, listing.Problems[0].Err, "it has a data.parquet and no meta.json")
			require.Equal(t, []string{"b-0"}, listing.Unread, "the block must be new when it can be read")
		})
	}
}

func TestABlockWithoutMetaJSONMakesAReadingIncomplete(t *testing.T) {
	store := broken(t, func(dir string) {
		old := time.Now().Add(-time.Hour)
		for _, name := range []string{"data.parquet", "bloom-0", "index"} {
			require.NoError(t, os.Chtimes(filepath.Join(dir, firstBlock, name), old, old))
		}
		require.NoError(t, os.Remove(filepath.Join(dir, firstBlock, "meta.json")))
	})
	_, report := readAll(t, store, blocks.Request{Needs: columnar.Needs{All: true}})
	require.Len(t, report.Problems, 1)
	require.Equal(t, "block "+firstBlock, report.Problems[0].What)
	require.NotZero(t, report.Skipped)
}

func TestALookAtABlockWithoutMetaJSONEndsWithItsContext(t *testing.T) {
	b := &bucket{objects: map[string][]byte{"t/b-0/data.parquet": []byte("PAR1")}}
	b.write("a-0")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := blocks.NewStore(b.open(), "memory").Impatient(time.Hour, time.Minute).List(ctx, "t")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
