package blocks_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/tempoclient/blocks"
)

// Blocks are listed by key while Tempo writes and compacts. All live blocks are in the listing.
func TestAListingMissesNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		// at makes the changes before a page, by its number; each page has one key.
		at        func(b *bucket, page int)
		live      []string
		compacted []string // where relevant
		unstable  bool
		problem   string
	}{
		"nothing happens": {at: func(*bucket, int) {}, live: []string{"m-0", "n-0"}},
		"the old is listed compacted, the new is written to a part that was listed before": {
			at: func(b *bucket, page int) {
				if page == 2 {
					b.write("a-1")
					b.mark("n-0")
				}
			}, live: []string{"a-1", "m-0"}},
		"the old is listed live, and then compacted": {
			at: func(b *bucket, page int) {
				if page == 3 {
					b.write("a-1")
					b.mark("m-0")
				}
			}, live: []string{"a-1", "n-0"}},
		"a block is written to a part that was listed before": {
			at: func(b *bucket, page int) {
				if page == 2 {
					b.write("a-0")
				}
			}, live: []string{"a-0", "m-0", "n-0"}},
		"a block is written to a part that was listed before, and compacted": {
			at: func(b *bucket, page int) {
				if page == 2 {
					b.write("a-0")
					b.mark("a-0")
					b.write("z-1")
				}
			}, live: []string{"m-0", "n-0", "z-1"}, compacted: []string{"a-0"}},
		"a block is written to a part that was listed before, and being compacted": {
			at: func(b *bucket, page int) {
				if page == 2 {
					b.write("a-0")
					b.write("z-1")
				}
			}, live: []string{"a-0", "m-0", "n-0", "z-1"}},
		"a block is written to a part that was listed twice before, and being compacted": {
			at: func(b *bucket, page int) {
				if page == 4 {
					b.write("a-0")
					b.write("z-1")
				}
			}, live: []string{"a-0", "m-0", "n-0", "z-1"}},
		"two compactions behind the listings' backs": {
			at: func(b *bucket, page int) {
				switch page {
				case 1:
					b.write("c-0")
				case 3: // n is listed compacted
					b.write("d-1")
					b.mark("n-0")
				case 5: // d is listed compacted
					b.write("a-2")
					b.mark("d-1")
				}
			}, live: []string{"a-2", "c-0", "m-0"}, compacted: []string{"d-1", "n-0"}},
		"blocks are compacted all the time": {
			at: func(b *bucket, page int) {
				if page > 1 && page%2 == 0 {
					b.write(fmt.Sprintf("a%02d-1", page))
					b.mark("m-0", fmt.Sprintf("a%02d-1", page-2))
				}
			}, unstable: true},
		"a meta.json is listed and is not there": {
			at: func(b *bucket, page int) {
				b.hook = func(r request) fault {
					if r.key == "t/m-0/meta.json" {
						return fault{err: errNoObject}
					}
					return fault{}
				}
			}, live: []string{"n-0"}, problem: "block m-0"},
	} {
		t.Run(name, func(t *testing.T) {
			b := &bucket{objects: map[string][]byte{}, pageSize: 1}
			b.write("m-0")
			b.write("n-0")
			page := 0
			b.hook = func(r request) fault {
				if r.op == "list" {
					page++
					tt.at(b, page)
				}
				return fault{}
			}
			store := blocks.NewStore(b.open(), "memory")
			listing, err := store.List(t.Context(), "t")
			require.NoError(t, err)
			require.Equal(t, tt.unstable, listing.Unstable)
			if tt.problem != "" {
				require.Len(t, listing.Problems, 1)
				require.Equal(t, tt.problem, listing.Problems[0].What)
				require.Equal(t, []string{"m-0"}, listing.Unread)
			}
			if tt.compacted != nil {
				require.Equal(t, tt.compacted, listing.Compacted)
			}
			if tt.live != nil {
				var live []string
				for _, m := range listing.Live {
					live = append(live, m.ID)
				}
				require.Equal(t, tt.live, live)
			}
		})
	}
}
