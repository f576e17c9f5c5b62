package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/betracehq/betrace/scheduler"
	"github.com/betracehq/betrace/scheduler/state"
)

// signingConfig names the key that signs entries.
type signingConfig struct{ KeyFile string }

// serverConfig describes the HTTP server of the service.
type serverConfig struct {
	Address string
	PProf   bool
	TLS     serverTLS
}

// outboxConfig controls the delivery of violations, corrections and statements.
type outboxConfig struct {
	MaxItems    int
	ResendAfter time.Duration
}

// logConfig controls the log of the service.
type logConfig struct{ Level, Format string }

// sweepConfig is one sweep of the configuration.
type sweepConfig struct {
	Name          string        `yaml:"name"`
	Schedule      string        `yaml:"schedule"`
	TimeZone      string        `yaml:"time_zone"`
	Tenants       []string      `yaml:"tenants,flow"`
	Packs         []string      `yaml:"packs,flow"`
	Select        string        `yaml:"select,omitempty"`
	Start         time.Duration `yaml:"start"`
	Settle        time.Duration `yaml:"settle"`
	Recheck       time.Duration `yaml:"recheck"`
	Recent        time.Duration `yaml:"recent,omitempty"`
	Hold          time.Duration `yaml:"hold"`
	Jitter        time.Duration `yaml:"jitter,omitempty"`
	Canary        time.Duration `yaml:"canary,omitempty"`
	Seeded        time.Duration `yaml:"seeded_violation,omitempty"`
	ResultsTenant string        `yaml:"results_tenant,omitempty"`
	CatchUp       string        `yaml:"catch_up"`
	Limits        sweepLimits   `yaml:"limits"`
}

// sweepLimits bound one tick. 0 is no limit.
type sweepLimits struct {
	Blocks     int     `yaml:"blocks"`
	Traces     int     `yaml:"traces"`
	Bytes      int64   `yaml:"bytes"`
	Spans      int     `yaml:"spans"`
	Requests   int64   `yaml:"requests"`
	Cost       float64 `yaml:"cost"`
	Violations int     `yaml:"violations_per_rule"`
}

// newSweep returns the defaults of a sweep.
func newSweep() sweepConfig {
	return sweepConfig{
		TimeZone: "UTC", Tenants: []string{scheduler.AllTenants}, Start: scheduler.DefaultStart, Settle: scheduler.DefaultSettle, Recheck: scheduler.DefaultRecheck,
		Hold: scheduler.DefaultHold, CatchUp: string(scheduler.CatchUpAll), Limits: sweepLimits{Bytes: scheduler.DefaultTickBytes, Violations: scheduler.DefaultViolations},
	}
}

// UnmarshalYAML sets the defaults before it decodes a sweep.
func (s *sweepConfig) UnmarshalYAML(n *yaml.Node) error {
	type plain sweepConfig
	*s = newSweep()
	s.Recheck = -1
	if err := n.Decode((*plain)(s)); err != nil {
		return err
	}
	if s.Recheck == -1 {
		s.Recheck = max(scheduler.DefaultRecheck, 2*s.Settle)
	}
	return nil
}

// settings returns the settings of a sweep, in the order of the reference page.
func (s *sweepConfig) settings() []setting {
	return []setting{
		{key: "name", field: &s.Name, help: "name in the state, metrics and records"},
		{key: "schedule", field: &s.Schedule, help: "cron expression of five fields, or of six with seconds first, or @every 30s (counted from 1970)"},
		{key: "time_zone", field: &s.TimeZone, help: "time zone of the schedule, a name of the IANA database"},
		{key: "tenants", field: &s.Tenants, help: "tenants to read; * is every tenant of the storage, listed again before each tick"},
		{key: "packs", field: &s.Packs, help: "files and folders with rule packs"},
		{key: "select", field: &s.Select, help: `condition in CEL that selects rules of the packs, as labels.team == "payments" && severity in ["critical", "high"]; further variables are pack, rule and controls, and an absent label is ""; the default is all rules`},
		{key: "start", field: &s.Start, help: "age of the oldest data that a new sweep judges"},
		{key: "settle", field: &s.Settle, help: "time for which spans of a trace may still arrive; then a range is complete"},
		{key: "recheck", field: &s.Recheck, help: "age at which traces that were read by the API are judged again, with the spans that arrived late; at least twice settle if not set; 0 is never"},
		{key: "recent", field: &s.Recent, help: "age at which traces are judged by the API before their blocks are stored, as 2m; the blocks confirm or correct the verdicts; 0 is never"},
		{key: "hold", field: &s.Hold, help: "time that a new block rests before it is judged, because its replicas are stored a little later"},
		{key: "jitter", field: &s.Jitter, help: "longest time by which a tick is later than scheduled; each tenant has its own part of it, so that many tenants do not begin at once"},
		{key: "canary", field: &s.Canary, help: "time between two harmless traces that the sweep writes to tempo.otlp and must find in the blocks, as 5m; 0 is none"},
		{key: "seeded_violation", field: &s.Seeded, help: "time between two traces that the sweep writes to tempo.otlp and must find in violation of a rule that is part of BeTrace, as 1h; 0 is none"},
		{key: "results_tenant", field: &s.ResultsTenant, help: "tenant of Tempo and Loki that receives the results; the default is the tenant of the traces"},
		{key: "catch_up", field: &s.CatchUp, help: "data that is judged after ticks were missed: all; latest, the window of the last due tick; or none; the rest is a hole"},
		{key: "limits.blocks", field: &s.Limits.Blocks, help: "maximum number of blocks that one tick judges; the next tick judges the rest at once; 0 is unlimited"},
		{key: "limits.traces", field: &s.Limits.Traces, help: "maximum number of traces in these blocks; 0 is unlimited"},
		{key: "limits.bytes", field: &s.Limits.Bytes, help: "maximum size of these blocks; 0 is unlimited"},
		{key: "limits.spans", field: &s.Limits.Spans, help: "maximum number of spans of the traces that a tick judges, estimated from the last tick and counted while it reads: a tick with several blocks that exceeds it starts again with half of them; a single block is judged anyway; 0 is unlimited"},
		{key: "limits.requests", field: &s.Limits.Requests, help: "maximum number of requests to the storage by which a tick reads its blocks, estimated and counted as limits.spans; 0 is unlimited"},
		{key: "limits.cost", field: &s.Limits.Cost, help: "maximum cost of the rules on the traces that a tick judges, estimated and counted as limits.spans: the sum over traces and rules of the cost that betrace rules explain shows, for a trace with the sizes of limits.trace and its own number of spans, rounded up; 0 is unlimited"},
		{key: "limits.violations_per_rule", field: &s.Limits.Violations, help: "maximum number of new violations of one rule that a tick keeps and files in full; of the others it lists the traces only; 0 is unlimited, but a tick keeps at most 100,000 of all rules in full"},
	}
}

// sweepKeys returns the keys of a sweep, or those below a key, without further levels.
func sweepKeys(below string) []string {
	var keys []string
	for _, s := range (&sweepConfig{}).settings() {
		if key, ok := strings.CutPrefix(s.key, below); ok {
			key, _, _ = strings.Cut(key, ".")
			keys = append(keys, key)
		}
	}
	return slices.Compact(keys)
}

// serviceSettings returns the settings of betrace serve, and of the commands that read its state.
func (c *config) serviceSettings() []setting {
	return []setting{
		{key: "state", flag: "state", field: &c.State, help: "`file` of the service's state (SQLite), or URL of a PostgreSQL database (postgres://user@host/database; the password is in PGPASSWORD or PGPASSFILE)"},
		{key: "signing.key_file", flag: "signing-key", field: &c.Signing.KeyFile, help: "`file` with the Ed25519 key that signs entries (PEM); the default is the state's name with .key.pem, which is made for a new state; PostgreSQL has no default"},
		{key: "server.address", flag: "address", field: &c.Server.Address, help: "`host:port` of the HTTP server of the service"},
		{key: "server.tls.cert_file", field: &c.Server.TLS.CertFile, help: "certificate (PEM) of the server, which then uses HTTPS; it is read again for each connection"},
		{key: "server.tls.key_file", field: &c.Server.TLS.KeyFile, help: "key of that certificate"},
		{key: "server.tls.client_ca_file", field: &c.Server.TLS.ClientCAFile, help: "certificates (PEM) of which clients must have one or be signed by one"},
		{key: "server.tls.ca_file", field: &c.Server.TLS.CAFile, help: "for commands that send requests to the service: certificates that sign that of the server; the default is cert_file itself"},
		{key: "server.tls.client_cert_file", field: &c.Server.TLS.ClientCertFile, help: "for these commands: certificate of the client"},
		{key: "server.tls.client_key_file", field: &c.Server.TLS.ClientKeyFile, help: "for these commands: key of that certificate"},
		{key: "server.tls.server_name", field: &c.Server.TLS.ServerName, help: "for these commands: required name in the server's certificate, if not the host in server.address"},
		{key: "server.pprof", field: &c.Server.PProf, help: "serve profiles under /debug/pprof/"},
		{key: "outbox.max_items", field: &c.Outbox.MaxItems, help: "number of violations, corrections and statements that may wait for a sink; sweeps pause when it is reached"},
		{key: "outbox.resend_after", field: &c.Outbox.ResendAfter, help: "time after which an item that a sink does not have is sent again"},
		{key: "tracing.otlp", field: &c.Tracing.OTLP, help: "address that receives OpenTelemetry traces about the work of the service itself: host:port for OTLP over gRPC without TLS, or a URL for OTLP/HTTP; they are never judged; the default is none"},
		{key: "tracing.tenant", field: &c.Tracing.Tenant, help: "tenant of these traces (X-Scope-OrgID)"},
		{key: "tracing.sample", field: &c.Tracing.Sample, help: "part of the ticks and deliveries that is traced, between 0 and 1"},
		{key: "log.level", field: &c.Log.Level, help: "least level of log lines: debug, info, warn or error"},
		{key: "log.format", field: &c.Log.Format, help: "format of log lines: logfmt or json"},
		{key: "sweeps", field: &c.Sweeps, help: "sweeps of betrace serve, each with " + strings.Join(sweepKeys(""), ", ") + ": see docs/configuration.md"},
	}
}

// loadSweeps sets the sweeps. They are in the configuration file, or as YAML in an environment variable.
func (c *config) loadSweeps(have any) error {
	text, ok := have.(string)
	position := ""
	switch {
	case ok:
		position = "BETRACE_SWEEPS"
	case have == nil:
		return nil
	default:
		file, err := os.ReadFile(c.file)
		if err != nil {
			return fmt.Errorf("configuration: %w", err)
		}
		text, position = string(file), c.file
	}
	var list struct{ Sweeps []sweepConfig }
	var into any = &list
	if ok {
		into = &list.Sweeps
	}
	// Unknown keys elsewhere were refused before, so the decoder is strict only within the sweeps.
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(text), &root); err != nil {
		return fmt.Errorf("configuration %s: sweeps: %w", position, err)
	}
	if err := checkSweepKeys(position, &root, ok); err != nil {
		return err
	}
	if err := root.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("configuration %s: sweeps: %w", position, err)
	}
	c.Sweeps = list.Sweeps
	return nil
}

// checkSweepKeys refuses unknown keys in sweeps, with their positions.
func checkSweepKeys(file string, root *yaml.Node, isList bool) error {
	if len(root.Content) == 0 {
		return nil
	}
	list := root.Content[0]
	if !isList {
		list = child(list, "sweeps")
	}
	if list.Kind != yaml.SequenceNode {
		return fmt.Errorf("configuration %s:%d:%d: sweeps: want a list of sweeps", file, list.Line, list.Column)
	}
	check := func(n *yaml.Node, what string, known []string) error {
		if n.Kind != yaml.MappingNode {
			return fmt.Errorf("configuration %s:%d:%d: %s: want keys and values", file, n.Line, n.Column, what)
		}
		for i := 0; i < len(n.Content); i += 2 {
			if key := n.Content[i]; !slices.Contains(known, key.Value) {
				return fmt.Errorf("configuration %s:%d:%d: %s has no key %s: want one of %q", file, key.Line, key.Column, what, key.Value, known)
			}
		}
		return nil
	}
	for _, sweep := range list.Content {
		if err := check(sweep, "a sweep", sweepKeys("")); err != nil {
			return err
		}
		for i := 0; i < len(sweep.Content); i += 2 {
			if sweep.Content[i].Value == "limits" {
				if err := check(sweep.Content[i+1], "limits", sweepKeys("limits.")); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// validateService checks the settings of the service.
func (c *config) validateService(fail func(format string, args ...any)) {
	if state.IsURL(c.State) {
		if err := state.CheckURL(c.State); err != nil {
			fail("state: %w", err)
		}
	}
	if _, err := c.sweeps(); err != nil {
		fail("sweeps: %w", err)
	}
	for _, s := range c.Sweeps {
		if (s.Canary > 0 || s.Seeded > 0) && c.Tempo.OTLP == "" {
			fail("sweep %s: canary and seeded_violation are written to Tempo: set tempo.otlp", s.Name)
		}
	}
	if err := c.Tracing.check(); err != nil {
		fail("%w", err)
	}
	if err := c.Server.TLS.check(); err != nil {
		fail("%w", err)
	}
	if _, err := c.logger(io.Discard); err != nil {
		fail("%w", err)
	}
}

// sweeps returns the sweeps, parsed.
func (c *config) sweeps() ([]scheduler.Sweep, error) {
	var all []scheduler.Sweep
	var errs []error
	for _, s := range c.Sweeps {
		schedule, err := scheduler.ParseSchedule(s.Schedule, s.TimeZone)
		if err != nil {
			errs = append(errs, fmt.Errorf("sweep %s: %w", s.Name, err))
			continue
		}
		var selector *scheduler.Selector
		if s.Select != "" {
			if selector, err = scheduler.ParseSelector(s.Select); err != nil {
				errs = append(errs, fmt.Errorf("sweep %s: %w", s.Name, err))
				continue
			}
		}
		all = append(all, scheduler.Sweep{
			Select: selector, Jitter: s.Jitter, Canary: s.Canary, Seeded: s.Seeded, ResultsTenant: s.ResultsTenant, CatchUp: scheduler.CatchUp(s.CatchUp),
			Name: s.Name, Schedule: schedule, Tenants: s.Tenants, Packs: s.Packs, Start: s.Start, Settle: s.Settle, Recheck: s.Recheck, Recent: s.Recent, Hold: s.Hold,
			Limits: scheduler.Limits(s.Limits),
		})
	}
	if len(errs) == 0 {
		errs = append(errs, scheduler.CheckSweeps(all))
	}
	return all, errors.Join(errs...)
}

// logger returns the log of the service.
func (c *config) logger(to io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Log.Level)); err != nil {
		return nil, fmt.Errorf("log.level is %q: want debug, info, warn or error", c.Log.Level)
	}
	options := &slog.HandlerOptions{Level: level}
	switch c.Log.Format {
	case "logfmt":
		return slog.New(slog.NewTextHandler(to, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(to, options)), nil
	}
	return nil, fmt.Errorf("log.format is %q: want logfmt or json", c.Log.Format)
}

// nextTicks writes the next three times of each sweep as comments of YAML.
func (c *config) nextTicks(to *bytes.Buffer, now time.Time) error {
	all, err := c.sweeps()
	if err != nil {
		return err
	}
	for i, s := range all {
		if i == 0 {
			fmt.Fprintln(to, "\n# Next ticks")
		}
		fmt.Fprintf(to, "# %s (%s):", s.Name, s.Schedule)
		at := now
		for range 3 {
			at = s.Schedule.Next(at)
			fmt.Fprintf(to, " %s", at.Format(time.RFC3339))
		}
		fmt.Fprintln(to)
	}
	return nil
}
