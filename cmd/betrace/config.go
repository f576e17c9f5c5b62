package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"

	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/scheduler"
	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/tempoclient/source"
)

//go:generate go test . -run TestConfigurationPageIsUpToDate -update

// config has all settings.
type config struct {
	Tempo  tempoConfig
	Loki   lokiConfig
	Tenant string
	Rules  []string
	Scan   scanConfig
	Limits limitsConfig

	State   string
	Signing signingConfig
	Sweeps  []sweepConfig
	Server  serverConfig
	Outbox  outboxConfig
	Tracing tracingConfig
	Log     logConfig

	file string // --config
}

// tempoConfig describes one Tempo: its API, the address for violation spans, and its storage.
type tempoConfig struct {
	URL       string
	GRPC      string
	OTLP      string
	Blocks    string
	Config    string
	Retention time.Duration
	// CompactedRetention is the time for which Tempo keeps compacted blocks.
	CompactedRetention time.Duration
	Access             accessConfig
}

// lokiConfig describes the Loki for records.
type lokiConfig struct {
	URL      string
	Lookback time.Duration
	Access   accessConfig
}

// accessConfig has the credentials and TLS options for a server.
type accessConfig struct {
	BearerToken     string
	BearerTokenFile string
	User            string
	Password        string
	PasswordFile    string
	Headers         map[string]string
	TLS             tlsConfig
}

type tlsConfig struct {
	CAFile             string
	CertFile           string
	KeyFile            string
	ServerName         string
	InsecureSkipVerify bool
}

// scanConfig controls how traces are read.
type scanConfig struct {
	Concurrency          int
	MaxRequestsPerSecond float64
	MaxBytesPerSecond    float64
	SearchLimit          int
	MaxTraceDuration     time.Duration
	Settle               time.Duration
	SettleBlocks         time.Duration
	SearchAgainAfter     time.Duration
	Source               string
	PlainAttributes      []string
	MemoryBytes          int
	RequestTimeout       time.Duration
	Tries                int
}

// limitsConfig bounds the cost of rules.
type limitsConfig struct {
	MaxCost            float64
	MaxExpressionBytes int
	Trace              lang.Sizes
}

// newConfig returns the defaults.
func newConfig() *config {
	return &config{
		Tempo: tempoConfig{URL: "http://localhost:3200", CompactedRetention: blocks.CompactedRetention},
		Loki:  lokiConfig{Lookback: 30 * 24 * time.Hour},
		Scan: scanConfig{
			Concurrency: 8, SearchLimit: 5000, MaxTraceDuration: time.Hour, Settle: tempoclient.DefaultSettle, SettleBlocks: tempoclient.DefaultSettle,
			SearchAgainAfter: 5 * time.Second, Source: string(source.Auto), MemoryBytes: blocks.DefaultMemoryBytes, RequestTimeout: time.Minute, Tries: 5,
		},
		Limits:  limitsConfig{MaxCost: 1e11, MaxExpressionBytes: 16 << 10, Trace: lang.DefaultSizes},
		Server:  serverConfig{Address: "127.0.0.1:9466"},
		Tracing: tracingConfig{Sample: 1},
		Outbox:  outboxConfig{MaxItems: 1_000_000, ResendAfter: scheduler.DefaultResendAfter},
		Log:     logConfig{Level: "info", Format: "logfmt"},
	}
}

// setting binds a field of the configuration to its key, its flag (if it has one) and its help. The value of a
// setting is that of the flag, else of the environment variable (BETRACE_ and the key in capitals, with _ for .),
// else of the key in the configuration file, else the default.
type setting struct {
	key, flag string
	field     any // pointer to the field
	help      string
	secret    bool
}

// settings returns all settings, in the order of the output of config check.
func (c *config) settings() []setting {
	tempo, loki, scan, limits, sizes := &c.Tempo, &c.Loki, &c.Scan, &c.Limits, &c.Limits.Trace
	return slices.Concat([]setting{
		{key: "tempo.url", flag: "tempo", field: &tempo.URL, help: "`URL` of Tempo's HTTP API, with the path before /api, if any"},
		{key: "tempo.grpc", flag: "tempo-grpc", field: &tempo.GRPC, help: "`host:port` of Tempo's gRPC API, for streaming search; the default is the host and port of the URL, or HTTP if that does not stream"},
		{key: "tempo.otlp", flag: "tempo-otlp", field: &tempo.OTLP, help: "`address` for violation spans: host:port for OTLP over gRPC, or a URL for OTLP/HTTP; the default is port 4317 of Tempo's host"},
		{key: "tempo.blocks", flag: "tempo-blocks", field: &tempo.Blocks, help: "`URL` or folder of Tempo's object storage (file://, s3://, gs://, azblob://; ?prefix=a/), from which settled traces are read"},
		{key: "tempo.config", flag: "tempo-config", field: &tempo.Config, help: "configuration `file` of Tempo, from which its object storage and its retention are read"},
		{key: "tempo.retention", flag: "tempo-retention", field: &tempo.Retention, help: "time for which Tempo keeps blocks (block_retention); a range that begins earlier is incomplete; the default is that of tempo.config, else unknown"},
		{key: "tempo.compacted_block_retention", field: &tempo.CompactedRetention, help: "time for which Tempo keeps compacted blocks (compactor.compaction.compacted_block_retention, or that of its backend worker); if it is less than three times the period of a sweep, compacted data is judged again"},
	}, tempo.Access.settings("tempo"), []setting{
		{key: "loki.url", flag: "loki", field: &loki.URL, help: "`URL` of Loki, for records; without it only spans are written"},
		{key: "loki.lookback", field: &loki.Lookback, help: "how far back existing records are searched before writing; a scan that is repeated later writes its records again"},
	}, loki.Access.settings("loki"), []setting{
		{key: "tenant", flag: "tenant", field: &c.Tenant, help: "`tenant` to read and write (X-Scope-OrgID)"},
		{key: "rules", flag: "rules", field: &c.Rules, help: "`files or folders` with rule packs"},
		{key: "scan.concurrency", flag: "concurrency", field: &scan.Concurrency, help: "maximum number of concurrent requests to Tempo; it is reduced while Tempo is overloaded"},
		{key: "scan.max_requests_per_second", field: &scan.MaxRequestsPerSecond, help: "maximum requests to Tempo per second, on average; 0 is unlimited"},
		{key: "scan.max_bytes_per_second", field: &scan.MaxBytesPerSecond, help: "maximum bytes in Tempo's responses per second, on average; 0 is unlimited"},
		{key: "scan.search_limit", flag: "search-limit", field: &scan.SearchLimit, help: "maximum number of traces per search; a range with more is searched in parts"},
		{key: "scan.max_trace_duration", flag: "max-trace-duration", field: &scan.MaxTraceDuration, help: "maximum duration of a trace; search continues for this time after the end of the range"},
		{key: "scan.settle", flag: "settle", field: &scan.Settle, help: "time for which spans may still arrive; younger data is provisional"},
		{key: "scan.settle_blocks", flag: "settle-blocks", field: &scan.SettleBlocks, help: "time until Tempo has written all spans to blocks: more than its ingester.max_block_duration; younger data is read by the API, and is provisional from every source"},
		{key: "scan.search_again_after", field: &scan.SearchAgainAfter, help: "pause before the API is searched a second time for younger data"},
		{key: "scan.source", flag: "source", field: &scan.Source, help: "`source` of traces: blocks; api; by-id (the API, each trace by its ID); or auto: settled traces from blocks, if configured, and the others by the API"},
		{key: "scan.plain_attributes", field: &scan.PlainAttributes, help: "attributes whose values are always one string, number or boolean, never a list, map or bytes; if the rules read no others, the API returns many traces per request; * is all attributes"},
		{key: "scan.memory_bytes", field: &scan.MemoryBytes, help: "approximate memory for the spans that are held while blocks are read"},
		{key: "scan.request_timeout", flag: "request-timeout", field: &scan.RequestTimeout, help: "timeout of one attempt to read from Tempo; for writes and for Loki it is 30s"},
		{key: "scan.tries", flag: "tries", field: &scan.Tries, help: "maximum attempts for a retryable request"},
		{key: "limits.max_cost", field: &limits.MaxCost, help: "maximum cost of a rule, see betrace rules explain"},
		{key: "limits.max_expression_bytes", field: &limits.MaxExpressionBytes, help: "maximum length of an expression"},
		{key: "limits.trace.spans", field: &sizes.Spans, help: "number of spans of the trace for which the cost of a rule is calculated when it is loaded"},
		{key: "limits.trace.descendants", field: &sizes.Descendants, help: "maximum number of descendants of one of its spans"},
		{key: "limits.trace.children", field: &sizes.Children, help: "maximum number of children of a span"},
		{key: "limits.trace.ancestors", field: &sizes.Ancestors, help: "maximum number of ancestors of a span"},
		{key: "limits.trace.events", field: &sizes.Events, help: "maximum number of events of a span"},
		{key: "limits.trace.links", field: &sizes.Links, help: "maximum number of links of a span"},
		{key: "limits.trace.attributes", field: &sizes.Attributes, help: "maximum number of attributes of a span"},
		{key: "limits.trace.text_bytes", field: &sizes.Text, help: "maximum length of a string"},
		{key: "limits.trace.list", field: &sizes.List, help: "maximum length of a list in an attribute"},
	}, c.serviceSettings())
}

// settings returns the settings for a server.
func (a *accessConfig) settings(server string) []setting {
	list := []setting{
		{key: "bearer_token", field: &a.BearerToken, secret: true, help: "token that is sent as Authorization: Bearer"},
		{key: "bearer_token_file", field: &a.BearerTokenFile, help: "file with the token"},
		{key: "user", field: &a.User, help: "user for basic authentication"},
		{key: "password", field: &a.Password, secret: true, help: "password of the user"},
		{key: "password_file", field: &a.PasswordFile, help: "file with the password"},
		{key: "headers", field: &a.Headers, secret: true, help: "headers that are sent with each request"},
		{key: "tls.ca_file", field: &a.TLS.CAFile, help: "certificates (PEM) that are trusted besides those of the system"},
		{key: "tls.cert_file", field: &a.TLS.CertFile, help: "certificate of the client"},
		{key: "tls.key_file", field: &a.TLS.KeyFile, help: "key of that certificate"},
		{key: "tls.server_name", field: &a.TLS.ServerName, help: "required name in the server's certificate, if not the host name"},
		{key: "tls.insecure_skip_verify", field: &a.TLS.InsecureSkipVerify, help: "trust any certificate"},
	}
	for i := range list {
		list[i].key = server + "." + list[i].key
	}
	return list
}

func (c *config) addConfigFlag(root *cobra.Command) {
	root.PersistentFlags().StringVar(&c.file, "config", os.Getenv("BETRACE_CONFIG"), "configuration `file` (YAML)")
}

// addFlags adds the flags of all settings that have one.
func (c *config) addFlags(flags *pflag.FlagSet) {
	for _, s := range c.settings() {
		if s.flag == "" {
			continue
		}
		switch v := s.field.(type) {
		case *string:
			flags.String(s.flag, *v, s.help)
		case *int:
			flags.Int(s.flag, *v, s.help)
		case *time.Duration:
			flags.Duration(s.flag, *v, s.help)
		case *[]string:
			flags.StringArray(s.flag, *v, s.help)
		}
	}
}

func (s *setting) environmentName() string {
	return "BETRACE_" + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

// load sets all fields for a command, and validates them. Unknown keys, and values of a wrong type, are errors.
func (c *config) load(flags *pflag.FlagSet) error {
	settings := c.settings()
	if err := unknownEnvironment(settings); err != nil {
		return err
	}
	v := viper.New()
	for _, s := range settings {
		if err := v.BindEnv(s.key, s.environmentName()); err != nil {
			return fmt.Errorf("configuration: %w", err)
		}
		if f := flags.Lookup(s.flag); s.flag != "" && f != nil && f.Changed {
			if err := v.BindPFlag(s.key, f); err != nil {
				return fmt.Errorf("configuration: %w", err)
			}
		}
	}
	if c.file != "" {
		if err := c.readFile(v, settings); err != nil {
			return err
		}
	}
	var errs []error
	for _, s := range settings {
		if !v.IsSet(s.key) || s.field == &c.Sweeps {
			continue
		}
		if err := s.set(v); err != nil {
			have := v.Get(s.key)
			if s.secret {
				have = hidden
			}
			errs = append(errs, fmt.Errorf("configuration: %s is %v: %w", s.key, have, err))
		}
	}
	errs = append(errs, c.loadSweeps(v.Get("sweeps")))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return c.validate()
}

// unknownEnvironment returns an error for a variable that is not a setting.
func unknownEnvironment(settings []setting) error {
	known := map[string]bool{"BETRACE_CONFIG": true, "BETRACE_STACK_CACHE": true, "BETRACE_TEST_POSTGRES": true}
	for _, s := range settings {
		known[s.environmentName()] = true
	}
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		// Kubernetes sets BETRACE_SERVICE_… and BETRACE_PORT… for a service with the name betrace.
		if strings.HasPrefix(name, "BETRACE_") && !known[name] && !strings.HasPrefix(name, "BETRACE_SERVICE_") && !strings.HasPrefix(name, "BETRACE_PORT") {
			return fmt.Errorf("environment: there is no setting %s: betrace config check lists all", name)
		}
	}
	return nil
}

func (c *config) readFile(v *viper.Viper, settings []setting) error {
	b, err := os.ReadFile(c.file)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(b, &root); err != nil {
		return fmt.Errorf("configuration %s: %w", c.file, err)
	}
	if len(root.Content) > 0 {
		if err := c.knownKeys(root.Content[0], "", settings); err != nil {
			return err
		}
	}
	v.SetConfigType("yaml")
	v.SetConfigFile(c.file)
	if err := v.ReadInConfig(); err != nil {
		return fmt.Errorf("configuration %s: %w", c.file, err)
	}
	return nil
}

// knownKeys returns an error, with its position, for a key that is not a setting.
func (c *config) knownKeys(n *yaml.Node, prefix string, settings []setting) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("configuration %s:%d:%d: want keys and values", c.file, n.Line, n.Column)
	}
	for i := 0; i < len(n.Content); i += 2 {
		key := prefix + n.Content[i].Value
		isSetting := slices.ContainsFunc(settings, func(s setting) bool { return s.key == key })
		isGroup := slices.ContainsFunc(settings, func(s setting) bool { return strings.HasPrefix(s.key, key+".") })
		switch {
		case isGroup && !isSetting:
			if err := c.knownKeys(n.Content[i+1], key+".", settings); err != nil {
				return err
			}
		case !isSetting:
			return fmt.Errorf("configuration %s:%d:%d: there is no setting %s: betrace config check lists all", c.file, n.Content[i].Line, n.Content[i].Column, key)
		}
	}
	return nil
}

// set sets the field to the value of the setting.
func (s *setting) set(v *viper.Viper) error {
	have := v.Get(s.key)
	text := fmt.Sprint(have)
	number := func() (float64, error) {
		n := v.GetFloat64(s.key)
		if n == 0 && text != "0" {
			return 0, errors.New("want a number")
		}
		return n, s.checkSign(n)
	}
	switch field := s.field.(type) {
	case *time.Duration:
		if _, ok := have.(string); !ok {
			return errors.New("want a duration with its unit, for example 15m")
		}
		var err error
		if *field, err = time.ParseDuration(text); err != nil {
			return err
		}
		return s.checkSign(float64(*field))
	case *int:
		*field = v.GetInt(s.key)
		_, err := number()
		return err
	case *float64:
		var err error
		*field, err = number()
		return err
	case *bool:
		if *field = text == "true"; !*field && text != "false" {
			return errors.New("want true or false")
		}
	case *string:
		var ok bool
		if *field, ok = have.(string); !ok {
			return errors.New("want a string")
		}
	case *[]string:
		*field = v.GetStringSlice(s.key)
		return checkList(have)
	case *map[string]string:
		if object, ok := have.(string); ok { // of an environment variable
			if json.Unmarshal([]byte(object), field) != nil {
				return errors.New(`want keys with strings; in an environment variable a JSON object, as {"X-Name": "value"}`)
			}
			return nil
		}
		*field = v.GetStringMapString(s.key)
		return s.checkMap(have)
	}
	return nil
}

// checkSign refuses numbers below 0, and 0 for the size of a trace.
func (s *setting) checkSign(n float64) error {
	switch {
	case n < 0:
		return errors.New("want 0 or more")
	case n == 0 && strings.HasPrefix(s.key, "limits.trace."):
		return errors.New("want more than 0")
	}
	return nil
}

func checkList(have any) error {
	switch list := have.(type) {
	case []string, string:
		return nil
	case []any:
		for _, v := range list {
			if _, ok := v.(string); !ok {
				return fmt.Errorf("want a list of strings; %v is not a string", v)
			}
		}
		return nil
	}
	return errors.New("want a list of strings")
}

func (s *setting) checkMap(have any) error {
	m, ok := have.(map[string]any)
	if !ok {
		return errors.New("want keys with strings")
	}
	for k, v := range m {
		if _, ok := v.(string); !ok {
			if s.secret {
				v = hidden
			}
			return fmt.Errorf("%s is %v: want a string", k, v)
		}
	}
	return nil
}

// validate checks the settings that depend on each other, and those with a syntax of their own.
func (c *config) validate() error {
	var errs []error
	fail := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("configuration: "+format, args...))
	}
	for _, s := range c.settings() {
		if text, ok := s.field.(*string); ok {
			if u, err := url.Parse(*text); err == nil && u.User != nil && strings.HasPrefix(u.Scheme, "http") {
				server, _, _ := strings.Cut(s.key, ".")
				fail("%s contains a user: set %s.user and %[2]s.password, which are not shown", s.key, server)
			}
		}
	}
	for server, access := range map[string]*accessConfig{"tempo": &c.Tempo.Access, "loki": &c.Loki.Access} {
		if access.User != "" && (access.BearerToken != "" || access.BearerTokenFile != "") {
			fail("%s: a bearer token and a user are both set: keep one", server)
		}
	}
	if strings.Contains(c.Tempo.Blocks, "://") {
		if err := blocks.CheckURL(c.Tempo.Blocks); err != nil {
			fail("tempo.blocks: %w", err)
		}
	}
	if c.Tempo.Blocks != "" && c.Tempo.Config != "" {
		fail("tempo.blocks and tempo.config are both set: keep one")
	}
	if !slices.Contains(source.Modes, source.Mode(c.Scan.Source)) {
		fail("scan.source is %q: want auto, api, by-id or blocks", c.Scan.Source)
	}
	c.validateService(fail)
	return errors.Join(errs...)
}

// rulePaths returns the files and folders with rule packs.
func (c *config) rulePaths() []string { return splitNames(c.Rules) }

// ruleOptions returns the limits of rules.
func (c *config) ruleOptions() rules.Options {
	return rules.Options{MaxCost: c.Limits.MaxCost, MaxExpressionBytes: c.Limits.MaxExpressionBytes, Sizes: c.Limits.Trace}
}

// access returns the credentials and TLS options for a server. The files with secrets must exist.
func (c *config) access(server string, a *accessConfig) (tempoclient.Access, error) {
	var errs []error
	for _, secret := range []struct{ key, file string }{{"bearer_token_file", a.BearerTokenFile}, {"password_file", a.PasswordFile}} {
		if secret.file != "" {
			if _, err := os.ReadFile(secret.file); err != nil {
				errs = append(errs, fmt.Errorf("%s.%s: %w", server, secret.key, err))
			}
		}
	}
	return tempoclient.Access{
		Tenant: c.Tenant, BearerToken: a.BearerToken, BearerTokenFile: a.BearerTokenFile, User: a.User, Password: a.Password, PasswordFile: a.PasswordFile,
		Headers: a.Headers, CAFile: a.TLS.CAFile, CertFile: a.TLS.CertFile, KeyFile: a.TLS.KeyFile,
		ServerName: a.TLS.ServerName, InsecureSkipVerify: a.TLS.InsecureSkipVerify,
	}, errors.Join(errs...)
}

// tempoClient returns the configuration of the client for Tempo's API.
func (c *config) tempoClient() (tempoclient.Config, error) {
	access, err := c.access("tempo", &c.Tempo.Access)
	return tempoclient.Config{
		URL: c.Tempo.URL, GRPCAddr: c.Tempo.GRPC, Access: access,
		Concurrency: c.Scan.Concurrency, MaxRequestsPerSecond: c.Scan.MaxRequestsPerSecond, MaxBytesPerSecond: c.Scan.MaxBytesPerSecond,
		PlainAttributes: c.Scan.PlainAttributes, SearchLimit: c.Scan.SearchLimit, MaxTraceDuration: c.Scan.MaxTraceDuration,
		SearchAgainAfter: c.Scan.SearchAgainAfter, RequestTimeout: c.Scan.RequestTimeout, Tries: c.Scan.Tries,
	}, err
}

// otlpWriter returns the configuration of the writer of violation spans. The default address is port 4317 of
// Tempo's host.
func (c *config) otlpWriter() (tempoclient.WriterConfig, error) {
	access, err := c.access("tempo", &c.Tempo.Access)
	if err != nil {
		return tempoclient.WriterConfig{}, err
	}
	u, err := url.Parse(c.Tempo.URL)
	if err != nil {
		return tempoclient.WriterConfig{}, fmt.Errorf("tempo.url: %w", err)
	}
	access.PlainText = u.Scheme == "http"
	addr := cmp.Or(c.Tempo.OTLP, net.JoinHostPort(u.Hostname(), "4317"))
	return tempoclient.WriterConfig{Addr: addr, Access: access, Tries: c.Scan.Tries}, nil
}
