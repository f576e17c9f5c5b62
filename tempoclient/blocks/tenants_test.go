package blocks_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"

	"github.com/betracehq/betrace/tempoclient/blocks"
)

// folders is a bucket that lists folders, one for each page.
type folders struct{ *bucket }

func (f folders) ListPaged(ctx context.Context, o *driver.ListOptions) (*driver.ListPage, error) {
	page, err := f.bucket.ListPaged(ctx, &driver.ListOptions{Prefix: o.Prefix})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, object := range page.Objects {
		name, _, _ := strings.Cut(object.Key, o.Delimiter)
		names = append(names, name+o.Delimiter)
	}
	for _, name := range slices.Compact(names) {
		if name <= string(o.PageToken) {
			continue
		}
		return &driver.ListPage{Objects: []*driver.ListObject{{Key: name, IsDir: true}}, NextPageToken: []byte(name)}, nil
	}
	return &driver.ListPage{}, nil
}

func TestTenantsAreListedAgainWhereStorageFailsForAMoment(t *testing.T) {
	for _, test := range []struct {
		name  string
		fails func(n int) fault // the fault of the nth request, from 1
		want  string            // empty: the tenants are listed
		asked int
	}{
		{"nothing", func(int) fault { return fault{} }, "", 4},
		{"an error at first", func(n int) fault {
			if n == 1 {
				return fault{err: errStorage}
			}
			return fault{}
		}, "", 5},
		{"an error behind the first page", func(n int) fault {
			if n == 2 {
				return fault{err: errStorage}
			}
			return fault{}
		}, "", 6},
		{"a request that stalls", func(n int) fault { return fault{hang: n == 3} }, "", 7},
		{"errors for good", func(int) fault { return fault{err: errStorage} }, "blocks at memory: list tenants: ", 4},
		{"a permanent error", func(int) fault { return fault{err: errNoObject} }, "no such object", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := &bucket{objects: map[string][]byte{"a/x/meta.json": nil, "a/y/meta.json": nil, "b/z/meta.json": nil, "c/meta.json": nil}}
			asked := 0
			b.hook = func(request) fault {
				asked++
				return test.fails(asked)
			}
			store := blocks.NewStore(blob.NewBucket(folders{b}), "memory").Impatient(time.Microsecond, 50*time.Millisecond)
			tenants, err := store.Tenants(t.Context())
			require.Equal(t, test.asked, asked)
			if test.want != "" {
				require.ErrorContains(t, err, test.want)
				require.Empty(t, tenants)
				return
			}
			require.NoError(t, err)
			require.Equal(t, []string{"a", "b", "c"}, tenants)
		})
	}
}
