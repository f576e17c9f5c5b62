package slowbucket_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/betracehq/betrace/bench/slowbucket"
)

func folder(t *testing.T) string {
	dir := t.TempDir()
	for _, name := range []string{"tenant/a/data", "tenant/b/data", "other/c/data"} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, make([]byte, 100_000), 0o644))
	}
	return dir
}

func TestARequestTakesItsTimeAndAStreamItsSpeed(t *testing.T) {
	dir := folder(t)
	synctest.Test(t, func(t *testing.T) {
		b := slowbucket.Open(dir, slowbucket.Options{Latency: 30 * time.Millisecond, BytesPerSecond: 1e6})
		defer b.Close()
		began := time.Now()
		r, err := b.NewRangeReader(t.Context(), "tenant/a/data", 50_000, 20_000, nil)
		require.NoError(t, err)
		defer r.Close()
		require.Equal(t, 30*time.Millisecond, time.Since(began))
		data, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Len(t, data, 20_000)
		require.InDelta(t, 50*time.Millisecond, time.Since(began), float64(2*time.Millisecond))
		require.Equal(t, slowbucket.Counts{Requests: 1, Bytes: 20_000}, b.Counts())
	})
}

func TestListingsAreAsTheFolderIs(t *testing.T) {
	b := slowbucket.Open(folder(t), slowbucket.Options{})
	defer b.Close()
	list := func(o *blob.ListOptions) (keys []string) {
		for it := b.List(o); ; {
			o, err := it.Next(t.Context())
			if errors.Is(err, io.EOF) {
				return keys
			}
			require.NoError(t, err)
			keys = append(keys, o.Key)
		}
	}
	require.Equal(t, []string{"other/", "tenant/"}, list(&blob.ListOptions{Delimiter: "/"}))
	require.Equal(t, []string{"tenant/a/data", "tenant/b/data"}, list(&blob.ListOptions{Prefix: "tenant/"}))
	require.Empty(t, list(&blob.ListOptions{Prefix: "none/"}))
	_, err := b.Attributes(t.Context(), "tenant/none")
	require.Equal(t, gcerrors.NotFound, gcerrors.Code(err))
	require.ErrorContains(t, b.WriteAll(t.Context(), "x", nil, nil), "read-only")
}
