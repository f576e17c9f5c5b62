package blocks_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/tempoclient/blocks"
)

func TestHowLongBlocksAreKeptIsFoundInTemposConfiguration(t *testing.T) {
	const day = 24 * time.Hour
	dir := t.TempDir()
	tenants := filepath.Join(dir, "tenants.yaml")
	require.NoError(t, os.WriteFile(tenants, []byte(`
overrides:
  short: {compaction: {block_retention: 2d}}
  old: {block_retention: 1w1d}
  other: {read: {max_search_duration: 1h}}
  kept: {compaction: {compaction_disabled: true}}
`), 0o644))
	everyone := filepath.Join(dir, "everyone.yaml")
	require.NoError(t, os.WriteFile(everyone, []byte(`overrides: {"*": {compaction: {block_retention: 5d}}, single-tenant: {block_retention: 6d}}`), 0o644))
	t.Setenv("RETENTION", "20h")
	for _, tt := range []struct {
		name, config, tenant string
		want                 time.Duration
	}{
		{"Tempo's default", "", "", 14 * day},
		{"the compactor's", "compactor: {compaction: {block_retention: 336h30m}}", "", 14*day + 30*time.Minute},
		{"from the environment", "compactor: {compaction: {block_retention: '${RETENTION}'}}", "", 20 * time.Hour},
		{"Tempo 3", "backend_worker: {compaction: {block_retention: 48h}}", "", 2 * day},
		{"nobody compacts", "compactor: {disabled: true, compaction: {block_retention: 48h}}", "", 0},
		{"overrides", "overrides: {defaults: {compaction: {block_retention: 1y}}}\ncompactor: {compaction: {block_retention: 48h}}", "", 365 * day},
		{"overrides as they were", "overrides: {block_retention: 3d12h}", "", 3*day + 12*time.Hour},
		{"overrides of none", "overrides: {defaults: {compaction: {compaction_disabled: true}}}", "", 0},
		{"a tenant's", "overrides: {per_tenant_override_config: TENANTS, defaults: {compaction: {block_retention: 9d}}}", "short", 2 * day},
		{"a tenant's as they were", "overrides: {per_tenant_override_config: TENANTS}", "old", 8 * day},
		{"a tenant's overrides of something else", "overrides: {per_tenant_override_config: TENANTS, defaults: {compaction: {block_retention: 9d}}}", "other", 14 * day},
		{"a tenant's that are kept", "overrides: {per_tenant_override_config: TENANTS}", "kept", 0},
		{"a tenant without any", "overrides: {per_tenant_override_config: TENANTS, defaults: {compaction: {block_retention: 9d}}}", "b", 9 * day},
		{"all tenants'", "overrides: {per_tenant_override_config: EVERYONE}", "b", 5 * day},
		{"the only tenant's", "overrides: {per_tenant_override_config: EVERYONE}", "", 6 * day},
		{"overrides that are elsewhere", "overrides: {per_tenant_override_config: /not/on/this/machine.yaml}\ncompactor: {compaction: {block_retention: 48h}}", "short", 2 * day},
	} {
		path := filepath.Join(dir, "tempo.yaml")
		config := strings.NewReplacer("TENANTS", tenants, "EVERYONE", everyone).Replace(tt.config)
		require.NoError(t, os.WriteFile(path, []byte(config), 0o644))
		have, err := blocks.TempoConfigRetention(path, tt.tenant)
		require.NoError(t, err, tt.name)
		require.Equal(t, tt.want, have, tt.name)
	}
	for config, want := range map[string]string{
		"compactor: {compaction: {block_retention: soon}}":                  "duration soon",
		"compactor: {compaction: {block_retention: 99999999999999999999d}}": "value out of range",
		"compactor: [": "tempo's configuration ",
		"overrides: {per_tenant_override_config: " + dir + "}": "is a directory",
	} {
		path := filepath.Join(dir, "tempo.yaml")
		require.NoError(t, os.WriteFile(path, []byte(config), 0o644))
		_, err := blocks.TempoConfigRetention(path, "")
		require.ErrorContains(t, err, want)
	}
	_, err := blocks.TempoConfigRetention(filepath.Join(dir, "none.yaml"), "")
	require.ErrorIs(t, err, os.ErrNotExist)
}
