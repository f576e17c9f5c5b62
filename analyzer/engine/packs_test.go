package engine_test

import (
	"io/fs"
	"path"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/analyzer/engine"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/packs"
)

// At least 95 of 100 expressions that decide in the packs that are shipped are vectorised;
// the log lists the others.
func TestTheShippedPacksAreVectorised(t *testing.T) {
	files, err := fs.Glob(packs.FS, "*.yaml")
	require.NoError(t, err)
	all, vectorised, byRow := 0, 0, 0
	for _, name := range files {
		text, err := packs.FS.ReadFile(name)
		require.NoError(t, err)
		pack, err := rules.Parse(path.Base(name), text, rules.Options{})
		require.NoError(t, err)
		p := engine.Compile(pack.Rules)
		for i, r := range pack.Rules {
			for _, part := range p.Explain(i) {
				all++
				if part.Vectorised() {
					vectorised++
				} else {
					t.Logf("%s/%s: %s: %q", pack.Name, r.ID, part.Name, part.Reasons)
				}
				if part.ByRow {
					byRow++
				}
			}
		}
	}
	t.Logf("%d of %d expressions are vectorised (%.1f %%), %d of them in part by row", vectorised, all, 100*float64(vectorised)/float64(all), byRow)
	require.GreaterOrEqual(t, float64(vectorised), 0.95*float64(all))
}
