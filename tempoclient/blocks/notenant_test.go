package blocks_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/tempoclient/blocks"
)

func TestStorageThatHoldsNothingOfATenantNamesItsContent(t *testing.T) {
	const tenantBlock, uuidTenant = "a/" + firstBlock + "/meta.json", secondBlock + "/" + firstBlock + "/data.parquet"
	many := []string{}
	for i := range 30 {
		many = append(many, fmt.Sprintf("tenant-%02d/index.json.gz", i))
	}
	for _, tt := range []struct {
		name, tenant string
		objects      []string
		local        string // the error for a folder; %s is that folder
		bucket       string // the error for a bucket
		requests     int    // maximum number of requests to the bucket
	}{
		{"another tenant", "shpo", []string{tenantBlock, "b/index.pb.zst", "tempo_cluster_seed.json", "logs/x.log"},
			`there is no tenant "shpo" in %s; there are: a, b`, `there is no tenant "shpo" in memory; there are: a, b`, 6},
		{"many tenants", "shpo", many,
			`there is no tenant "shpo" in %s; there are: tenant-00, tenant-01, tenant-02, tenant-03, tenant-04, tenant-05, tenant-06, tenant-07, tenant-08, tenant-09 and 20 more`,
			`tenant-09 and 20 more`, 22},
		{"a tenant whose name looks like a block", "shpo", []string{uuidTenant},
			`there is no tenant "shpo" in %s; there are: ` + secondBlock, `there are: ` + secondBlock, 5},
		{"a tenant's folder with an index", "", []string{"index.json.gz"},
			`%s is the folder of one tenant: name %[2]s, which holds the folders of the tenants`, `memory is the folder of one tenant: name the folder above it`, 2},
		{"a tenant's folder with blocks only", "", []string{firstBlock + "/meta.compacted.json"},
			`%s is the folder of one tenant: name %[2]s, which holds`, `memory is the folder of one tenant: name the folder above it`, 3},
		{"a block's folder", "", []string{"meta.json", "data.parquet", "bloom-0"},
			`%s is the folder of one block: name %[3]s, which holds`, `memory is the folder of one block: name the folder two levels above it`, 2},
		{"a folder above", "shop", []string{"docs/x/y.md", "tempo/acme/index.json.gz", "tempo/shop/" + firstBlock + "/meta.json"},
			`%s holds no tenant, but folders of tenants are one level below: name %[1]s/tempo`, `one level below: name it with the prefix "tempo/"`, 9},
		{"the wrong tenant, which is that folder", "tempo", []string{"tempo/shop/" + firstBlock + "/meta.json"},
			`%s holds no tenant, but folders of tenants are one level below: name %[1]s/tempo`, `one level below: name it with the prefix "tempo/"`, 6},
		{"an empty folder", "shop", nil,
			`%s is empty: Tempo stores its first block`, `memory is empty: Tempo stores`, 2},
		{"something else", "shop", []string{"a/b/c/d", "e"},
			`there is no tenant "shop" in %s, nor any other: no folder in it holds blocks of Tempo's`, `there is no tenant "shop" in memory, nor any other`, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, b := t.TempDir(), &bucket{objects: map[string][]byte{}}
			for _, key := range tt.objects {
				require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, key)), 0o755))
				require.NoError(t, os.WriteFile(filepath.Join(dir, key), []byte("x"), 0o644))
				b.objects[key] = []byte("x")
			}
			requests := 0
			b.hook = func(request) fault { requests++; return fault{} }
			local, err := blocks.OpenFolder(t.Context(), dir)
			require.NoError(t, err)
			defer local.Close()
			want := fmt.Sprintf(tt.local+"%.0[2]s%.0[3]s", dir, filepath.Dir(dir), filepath.Dir(filepath.Dir(dir)))
			for _, s := range []struct {
				store *blocks.Store
				want  string
			}{{local, want}, {blocks.NewStore(b.open(), "memory"), tt.bucket}} {
				listing, err := s.store.List(t.Context(), tt.tenant)
				require.NoError(t, err)
				require.Empty(t, listing.Live)
				require.Len(t, listing.Problems, 1)
				require.Contains(t, listing.Problems[0].Err.Error(), s.want)
				require.True(t, strings.HasPrefix(listing.Problems[0].What, "tenant "))
				_, report := readAll(t, s.store, blocks.Request{Tenant: tt.tenant})
				require.Len(t, report.Problems, 1, "a reading must be incomplete, too")
			}
			require.LessOrEqual(t, requests/2, tt.requests, "requests of one listing")
		})
	}
}

func TestATenantWithoutBlocksIsQuiet(t *testing.T) {
	for _, key := range []string{"t/index.json.gz", "t/index.pb.zst", "t/" + firstBlock + "/meta.compacted.json"} {
		b := &bucket{objects: map[string][]byte{key: []byte("x")}}
		got, report := readAll(t, blocks.NewStore(b.open(), "memory"), blocks.Request{Tenant: "t"})
		require.Empty(t, got)
		require.Empty(t, report.Problems, key)
	}
}

func TestStorageThatCannotBeListedIsSaidWithTheTenant(t *testing.T) {
	b := &bucket{objects: map[string][]byte{"a/x/meta.json": nil, "b/index.json.gz": nil}}
	for _, key := range []string{"", "a/", "a/x/", "b/"} {
		b.hook = func(r request) fault {
			if r.key == key {
				return fault{err: errStorage}
			}
			return fault{}
		}
		listing, err := blocks.NewStore(b.open(), "memory").Impatient(time.Microsecond, time.Second).List(t.Context(), "shop")
		require.NoError(t, err)
		require.Len(t, listing.Problems, 1)
		require.ErrorContains(t, listing.Problems[0].Err, `there is no tenant "shop" in memory`)
		require.ErrorIs(t, listing.Problems[0].Err, errStorage)
	}
}
