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

// defaultRetention is Tempo's (RegisterFlagsAndApplyDefaults in tempodb/config.go).
const defaultRetention = 14 * 24 * time.Hour

// retentionConfig is what of Tempo's configuration says how long blocks are kept: the
// compactor does away with them in Tempo 2, the backend worker in 3.
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
	// Disabled is an override's only: such a tenant's blocks do not expire either.
	Disabled bool `yaml:"compaction_disabled"`
}

// tenantRetention is what is said of tenants, as of now or as Tempo 1 had it.
type tenantRetention struct {
	Compaction blockRetention
	Flat       blockRetention `yaml:",inline"`
}

func (r *tenantRetention) retention() blockRetention {
	return blockRetention{cmp.Or(r.Compaction.BlockRetention, r.Flat.BlockRetention), r.Compaction.Disabled || r.Flat.Disabled}
}

// TempoConfigRetention reads the configuration file of a Tempo and returns how long a
// block of a tenant is kept after its end; 0: for good. The file that overrides settings
// per tenant is read if it is where Tempo's configuration says, on this machine.
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
		// A tenant that has overrides has none of the defaults'.
		if own := cmp.Or(tenants.Overrides[cmp.Or(tenant, "single-tenant")], tenants.Overrides["*"]); own != nil {
			override = own.retention()
		}
	}
	if c.Compactor.Disabled || override.Disabled {
		return 0, nil
	}
	return time.Duration(cmp.Or(override.BlockRetention, c.Compactor.Compaction.BlockRetention, c.BackendWorker.Compaction.BlockRetention, tempoDuration(defaultRetention))), nil
}

// tempoDuration is written as Go's or as Prometheus' durations are, which has days, weeks
// and years.
type tempoDuration time.Duration

var longUnits = regexp.MustCompile(`^(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(.*)$`)

// UnmarshalText reads one.
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
