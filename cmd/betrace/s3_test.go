package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace/tracetest"
)

// A real Tempo stored the blocks on a real S3 server. Both ways to name the bucket find
// the violations that were planted, and show no credentials.
func TestAScanReadsBlocksFromS3(t *testing.T) {
	w := newWorldOf(t, stack.Options{Tempo: true, S3: true, FlushOnly: true, Multitenant: true})
	store, err := blocks.OpenTempo(t.Context(), w.TempoConfig)
	require.NoError(t, err)
	defer store.Close()
	o := tracetest.Mixed(78, 300).ForTempo()
	o.Start, o.Window = time.Now().Add(-3*time.Hour), time.Hour
	all, planted := generate(o)
	w.send(t, all)
	w.flushed(t, store, spansOf(all))
	from, to := o.Start.Add(-time.Minute).UTC().Format(time.RFC3339), o.Start.Add(90*time.Minute).UTC().Format(time.RFC3339)
	for _, tt := range []struct {
		args        []string
		environment []string
	}{
		{args: []string{"--tempo-config", w.TempoConfig}},
		{args: []string{"--tempo-blocks", w.TempoBlocks}, environment: w.S3.Env()},
	} {
		t.Run(tt.args[0], func(t *testing.T) {
			for _, v := range tt.environment {
				name, value, _ := strings.Cut(v, "=")
				t.Setenv(name, value)
			}
			printed, s := w.scan(t, exitViolations, append([]string{"--rules", packFile(t), "--from", from, "--to", to, "--dry-run", "--source", "blocks"}, tt.args...)...)
			require.Empty(t, cmp.Diff(planted, printed))
			require.Equal(t, "blocks", s.Basis)
			require.Empty(t, s.Problems)
			require.Equal(t, len(all), s.Traces.Judged+s.Traces.OutsideQuery)

			code, stdout, stderr := betrace(t.Context(), append([]string{"blocks", "--tenant", w.tenant}, tt.args...)...)
			require.Equal(t, exitOK, code, stderr)
			code, shown, stderr := betrace(t.Context(), append([]string{"config", "check"}, tt.args...)...)
			require.Equal(t, exitOK, code, stderr)
			for _, secret := range []string{w.S3.AccessKey, w.S3.SecretKey} {
				require.NotContains(t, stdout+shown+stderr, secret)
			}
		})
	}
}
