package blocks

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"time"
)

// CompactedRetention is Tempo's default time for which compacted blocks are kept
// (compactor.compaction.compacted_block_retention).
const CompactedRetention = time.Hour

// defaultRetention is Tempo's (RegisterFlagsAndApplyDefaults in tempodb/config.go).
const defaultRetention = 14 * 24 * time.Hour

// retentionConfig is the part of Tempo's configuration that determines the retention of blocks. The
// compactor deletes them in Tempo 2, the backend worker in 3.
type retentionConfig struct {
	Compactor struct {
		Disabled   bool
		Compaction blockRetention
	}
	BackendWorker struct{ Compaction blockRetention } `yaml:"backend_worker"`
	Overrides     struct {
		Defaults      tenantRetention
		Legacy        tenantRetention `yaml:",inline"`
		PerTenantFile string          `yaml:"per_tenant_override_config"`
	}
}

type blockRetention struct {
	BlockRetention tempoDuration `yaml:"block_retention"`
	// Disabled can only be set in an override. Blocks of such a tenant are not deleted either.
	Disabled bool `yaml:"compaction_disabled"`
}

// tenantRetention is the part for tenants, in the current form or in that of Tempo 1.
type tenantRetention struct {
	Compaction blockRetention
	Flat       blockRetention `yaml:",inline"`
}

func (r *tenantRetention) retention() blockRetention {
	return blockRetention{cmp.Or(r.Compaction.BlockRetention, r.Flat.BlockRetention), r.Compaction.Disabled || r.Flat.Disabled}
}

// TempoConfigRetention reads the configuration file of a Tempo and returns the time for which a block of
// a tenant is kept after its end; 0 means forever. The file with overrides for tenants is read if it
// exists at the configured path on this machine.
func TempoConfigRetention(path, tenant string) (time.Duration, error) {
	var c retentionConfig
	if err := readTempoConfig(path, &c); err != nil {
		return 0, err
	}
	override := c.Overrides.Defaults.retention()
	if override == (blockRetention{}) {
		override = c.Overrides.Legacy.retention()
	}
	if file := c.Overrides.PerTenantFile; file != "" {
		var tenants struct{ Overrides map[string]*tenantRetention }
		if err := readTempoConfig(file, &tenants); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
		// A tenant with overrides does not inherit any of the defaults.
		if own := cmp.Or(tenants.Overrides[cmp.Or(tenant, "single-tenant")], tenants.Overrides["*"]); own != nil {
			override = own.retention()
		}
	}
	if c.Compactor.Disabled || override.Disabled {
		return 0, nil
	}
	return time.Duration(cmp.Or(override.BlockRetention, c.Compactor.Compaction.BlockRetention, c.BackendWorker.Compaction.BlockRetention, tempoDuration(defaultRetention))), nil
}

// tempoDuration is a duration in the syntax of Go or of Prometheus, which has days, weeks and years.
type tempoDuration time.Duration

var longUnits = regexp.MustCompile(`^(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(.*)$`)

// UnmarshalText parses a duration.
func (d *tempoDuration) UnmarshalText(text []byte) error {
	m := longUnits.FindStringSubmatch(string(text))
	days := 0
	for i, each := range []int{365, 7, 1} {
		n, err := strconv.Atoi(cmp.Or(m[i+1], "0"))
		if err != nil {
			return fmt.Errorf("duration %s: %w", text, err)
		}
		days += n * each
	}
	rest, err := time.ParseDuration(cmp.Or(m[4], "0"))
	if err != nil {
		return fmt.Errorf("duration %s: %w", text, err)
	}
	*d = tempoDuration(time.Duration(days)*24*time.Hour + rest)
	return nil
}
