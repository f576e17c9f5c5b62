package blocks_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// The live blocks of the fixture.
const (
	firstBlock  = "0bbebe00-5d53-42ce-b219-aac987622c8d"
	secondBlock = "4ae5650f-26b0-4e87-bfe8-08d7b3d8b627"
)

// broken copies the fixture and breaks the copy with do.
func broken(t *testing.T, do func(dir string)) *blocks.Store {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/vparquet5")))
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chmod(path, 0o755)
	}))
	do(filepath.Join(dir, "single-tenant"))
	store, err := blocks.OpenFolder(t.Context(), dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

// change rewrites a file of the fixture's copy.
func change(t *testing.T, path string, f func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, f(b), 0o644))
}

// Unreadable data is reported, and no trace is delivered that may lack its spans.
func TestADamagedBlockIsSaidAndNoHalfTraceIsGiven(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		do         func(dir string)
	}{
		{"no data", "data.parquet", func(dir string) { require.NoError(t, os.Remove(filepath.Join(dir, firstBlock, "data.parquet"))) }},
		{"an empty file", "data.parquet", func(dir string) {
			change(t, filepath.Join(dir, firstBlock, "data.parquet"), func([]byte) []byte { return nil })
		}},
		{"data cut off", "data.parquet", func(dir string) {
			change(t, filepath.Join(dir, firstBlock, "data.parquet"), func(b []byte) []byte { return b[:len(b)/2] })
		}},
		{"a damaged footer", "data.parquet", func(dir string) {
			change(t, filepath.Join(dir, firstBlock, "data.parquet"), func(b []byte) []byte {
				for i := len(b) - 4000; i < len(b)-3000; i++ {
					b[i] ^= 0xff
				}
				return b
			})
		}},
		{"damaged pages", "", func(dir string) {
			change(t, filepath.Join(dir, firstBlock, "data.parquet"), func(b []byte) []byte {
				for i := 1000; i < len(b)/2; i += 50 {
					b[i] ^= 0xff
				}
				return b
			})
		}},
		{"an invalid meta.json", "is not a meta.json", func(dir string) {
			change(t, filepath.Join(dir, firstBlock, "meta.json"), func([]byte) []byte { return []byte("{") })
		}},
		{"meta.json of another block", "it was copied from there", func(dir string) {
			change(t, filepath.Join(dir, firstBlock, "meta.json"), func(b []byte) []byte {
				return []byte(strings.ReplaceAll(string(b), firstBlock, secondBlock))
			})
		}},
		{"an older format", "its format is vParquet3: let Tempo rewrite it in one of the supported formats [vParquet4 vParquet5]", func(dir string) {
			change(t, filepath.Join(dir, firstBlock, "meta.json"), func(b []byte) []byte {
				return []byte(strings.ReplaceAll(string(b), "vParquet5", "vParquet3"))
			})
		}},
		{"a dedicated column that the file has not", "the file has no column rs.Resource.DedicatedAttributes.String02", func(dir string) {
			change(t, filepath.Join(dir, firstBlock, "meta.json"), func(b []byte) []byte {
				return []byte(strings.Replace(string(b), `"dedicatedColumns":[`, `"dedicatedColumns":[`+strings.Repeat(`{"s":"resource","n":"a"},`, 6), 1))
			})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, report := readAll(t, broken(t, tt.do), blocks.Request{Needs: columnar.Needs{All: true}})
			require.Empty(t, got)
			require.NotEmpty(t, report.Problems)
			require.Equal(t, "block "+firstBlock, report.Problems[0].What)
			require.ErrorContains(t, report.Problems[0].Err, tt.want)
			require.NotZero(t, report.Skipped)
		})
	}
}

func TestACompactedBlockIsNotRead(t *testing.T) {
	// Marking a block is a copy and then a delete, so both files exist for a moment.
	store := broken(t, func(dir string) {
		b, err := os.ReadFile(filepath.Join(dir, firstBlock, "meta.json"))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, firstBlock, "meta.compacted.json"), b, 0o644))
	})
	listing, err := store.List(t.Context(), "")
	require.NoError(t, err)
	require.Len(t, listing.Live, 2)
	require.Len(t, listing.Compacted, 4)
	require.False(t, listing.Unstable)
	tenants, err := store.Tenants(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"single-tenant"}, tenants)
}

func TestABlockIsLeftOutOnlyByTheTimesOfItsRows(t *testing.T) {
	store, sent := fixture(t)
	// The meta.json of every block has another time, which must have no effect.
	lying := broken(t, func(dir string) {
		for _, id := range []string{firstBlock, secondBlock} {
			change(t, filepath.Join(dir, id, "meta.json"), func(b []byte) []byte {
				return []byte(strings.ReplaceAll(string(b), "2026-11-23T13", "2020-01-01T13"))
			})
		}
	})
	first := sent[0].Start()
	for _, tr := range sent {
		first = min(first, tr.Start())
	}
	at := first.Time()
	for _, s := range []*blocks.Store{store, lying} {
		got, report := readAll(t, s, blocks.Request{From: at, To: at.Add(time.Minute)})
		require.Len(t, got, 300)
		require.Len(t, report.Blocks, 3)
		got, report = readAll(t, s, blocks.Request{From: at.Add(-3 * time.Hour), To: at.Add(-2 * time.Hour)})
		require.Empty(t, got)
		require.Equal(t, 3, report.Left)
		// This is near enough for a trace in the range to have spans there.
		got, report = readAll(t, s, blocks.Request{From: at.Add(-50 * time.Minute), To: at.Add(-40 * time.Minute)})
		require.Empty(t, got)
		require.Equal(t, 300, report.OutsideRange)
		require.Zero(t, report.Left)
	}
	half := 0
	middle := at.Add(10 * time.Second)
	for _, tr := range sent {
		if tr.Start().Time().Before(middle) {
			half++
		}
	}
	got, report := readAll(t, store, blocks.Request{To: middle})
	require.Len(t, got, half)
	require.Equal(t, 300-half, report.OutsideRange)
	require.NotZero(t, report.Bytes)
	require.NotZero(t, report.Requests)
}

func TestAReadingEndsWithItsContextAndItsConsumer(t *testing.T) {
	store, _ := fixture(t)
	stop := errors.New("enough")
	_, err := store.Traces(t.Context(), blocks.Request{}, func(*trace.Trace) error { return stop })
	require.ErrorIs(t, err, stop)
	ctx, cancel := context.WithCancelCause(t.Context())
	n := 0
	_, err = store.Traces(ctx, blocks.Request{MemoryBytes: 1}, func(*trace.Trace) error {
		if n++; n == 3 {
			cancel(stop)
		}
		return nil
	})
	require.Error(t, err)
	require.Less(t, n, 300)
}

func TestTheStorageIsFoundInTemposConfiguration(t *testing.T) {
	t.Setenv("BUCKET_OF_TEMPO", "traces")
	dir := t.TempDir()
	for name, tt := range map[string]struct{ config, want, err string }{
		"local":          {"backend: local, local: {path: /var/tempo/blocks}", "file:///var/tempo/blocks?no_tmp_dir=true", ""},
		"local, nothing": {"backend: local", "", "storage.trace.local.path is empty"},
		"s3":             {"backend: s3, s3: {bucket: '${BUCKET_OF_TEMPO}', region: eu-central-1, prefix: a/b}", "s3://traces?prefix=a%2Fb%2F&region=eu-central-1", ""},
		"s3, own server": {"backend: s3, s3: {bucket: traces, endpoint: 'minio:9000', insecure: true}", "s3://traces?endpoint=http%3A%2F%2Fminio%3A9000&use_path_style=true", ""},
		"s3, default":    {"backend: s3, s3: {bucket: '${NOT_SET_ANYWHERE:fallback}', endpoint: s3.dualstack.us-east-2.amazonaws.com}", "s3://fallback?endpoint=https%3A%2F%2Fs3.dualstack.us-east-2.amazonaws.com&use_path_style=false", ""},
		"s3, nothing":    {"backend: s3", "", "storage.trace.s3.bucket is empty"},
		"gcs":            {"backend: gcs, gcs: {bucket_name: traces, prefix: /t/}", "gs://traces?prefix=t%2F", ""},
		"azure":          {"backend: azure, azure: {container_name: traces, storage_account_name: acc, endpoint_suffix: blob.core.windows.net}", "azblob://traces?domain=blob.core.windows.net&storage_account=acc", ""},
		"azure, Azurite": {"backend: azure, azure: {container_name: traces, storage_account_name: acc, endpoint_suffix: 'azurite:10000'}", "azblob://traces?domain=azurite%3A10000&localemu=true&protocol=http&storage_account=acc", ""},
		"gcs, emulator":  {"backend: gcs, gcs: {bucket_name: traces, insecure: true}", "gs://traces?anonymous=true", ""},
		"another":        {"backend: tape", "", `storage.trace.backend is "tape": use local, s3, gcs or azure`},
	} {
		path := filepath.Join(dir, "tempo.yaml")
		require.NoError(t, os.WriteFile(path, []byte("server: {http_listen_port: 3200}\nstorage: {trace: {"+tt.config+"}}\n"), 0o644))
		have, err := blocks.TempoConfigURL(path)
		require.Equal(t, tt.want, have, name)
		if tt.err != "" {
			require.ErrorContains(t, err, tt.err, name)
		} else {
			require.NoError(t, err, name)
		}
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tempo.yaml"), []byte("storage: ["), 0o644))
	_, err := blocks.OpenTempo(t.Context(), filepath.Join(dir, "tempo.yaml"))
	require.ErrorContains(t, err, "tempo's configuration "+dir)
	_, err = blocks.OpenTempo(t.Context(), filepath.Join(dir, "none.yaml"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = blocks.Open(t.Context(), "ftp://x")
	require.ErrorContains(t, err, "blocks at ftp://x")
}
