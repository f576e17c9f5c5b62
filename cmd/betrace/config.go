package main

import (
	"errors"
	"fmt"
	"maps"
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
	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/tempoclient/blocks"
)

// setting is one thing that can be configured: by its flag, if it has one, else by
// the environment (BETRACE_ and the key in capitals, _ for .), else by its key in
// the configuration file, else it has its default.
type setting struct {
	key, flag string
	value     any // the default, which also gives the type
	secret    bool
	help      string
}

// settings are all of them.
var settings = append([]setting{
	{key: "tempo.url", flag: "tempo", value: "http://localhost:3200", help: "`URL` of Tempo's HTTP API"},
	{key: "tempo.grpc", flag: "tempo-grpc", value: "", help: "`host:port` of Tempo's gRPC API, for streaming search; by default the URL's, and HTTP if that does not stream"},
	{key: "tempo.otlp", flag: "tempo-otlp", value: "", help: "`address` that takes violation spans: host:port for OTLP over gRPC, a URL for OTLP/HTTP; by default Tempo's host, port 4317"},
	{key: "tempo.blocks", flag: "tempo-blocks", value: "", help: "`URL` or folder of the object storage in which Tempo keeps its blocks (file://, s3://, gs://, azblob://; ?prefix=a/): settled traces are read there"},
	{key: "tempo.config", flag: "tempo-config", value: "", help: "`file` that configures Tempo; its object storage, and how long it keeps blocks, are read from it"},
	{key: "tempo.retention", flag: "tempo-retention", value: time.Duration(0), help: "how long Tempo keeps blocks (block_retention); a range that begins earlier is incomplete; by default what tempo.config says, else it is not known"},
	{key: "loki.url", flag: "loki", value: "", help: "`URL` of Loki, for the records; without it only spans are written"},
	{key: "loki.lookback", value: 30 * 24 * time.Hour, help: "how far back records are looked for before they are written; a range that is scanned again later than this writes its records again"},
	{key: "tenant", flag: "tenant", value: "", help: "the `tenant` that is read and written, as X-Scope-OrgID"},
	{key: "rules", flag: "rules", value: []string{}, help: "rule packs: `files or folders`"},
	{key: "scan.concurrency", flag: "concurrency", value: 8, help: "how many requests to Tempo are under way at once; lower it if Tempo is loaded"},
	{key: "scan.max_requests_per_second", value: 0.0, help: "how many requests a second Tempo is sent at most, on average; 0: no bound"},
	{key: "scan.max_bytes_per_second", value: 0.0, help: "how many bytes a second Tempo is to answer at most, on average; 0: no bound"},
	{key: "scan.search_limit", flag: "search-limit", value: 5000, help: "how many traces one search asks for; a range with more is searched in parts"},
	{key: "scan.max_trace_duration", flag: "max-trace-duration", value: time.Hour, help: "how long a trace may last; search runs so far beyond the end of the range"},
	{key: "scan.settle", flag: "settle", value: tempoclient.DefaultSettle, help: "how long spans may still arrive; younger data is provisional"},
	{key: "scan.settle_blocks", flag: "settle-blocks", value: tempoclient.DefaultSettle, help: "how long until Tempo has moved all spans to blocks: more than its ingester.max_block_duration; younger data is read by the API, and is provisional from every source"},
	{key: "scan.search_again_after", value: 5 * time.Second, help: "pause before younger data is searched a second time by the API"},
	{key: "scan.source", flag: "source", value: "auto", help: "where traces are read: `way`: blocks, api, by-id (the API, each trace by its ID), or auto: what is settled from blocks, if they are named, the rest by the API"},
	{key: "scan.plain_attributes", value: []string{}, help: "attributes that hold one text, number or truth value wherever they are, and no list, map or bytes; rules that read no others read many traces at once by the API; * is all"},
	{key: "scan.memory_bytes", value: blocks.DefaultMemoryBytes, help: "about how much the spans may take that are held at a time while blocks are read"},
	{key: "scan.request_timeout", flag: "request-timeout", value: time.Minute, help: "how long one try of a request may take"},
	{key: "scan.tries", flag: "tries", value: 5, help: "how often a request is tried that fails in a way that may pass"},
	{key: "limits.max_cost", value: 1e11, help: "the most that a rule may cost, see betrace rules explain"},
	{key: "limits.max_expression_bytes", value: 16 << 10, help: "the longest expression"},
	{key: "limits.trace.spans", value: lang.DefaultSizes.Spans, help: "the trace that a rule's cost is worked out for when it is loaded: how many spans it has"},
	{key: "limits.trace.descendants", value: lang.DefaultSizes.Descendants, help: "how many of them a span has below it at most"},
	{key: "limits.trace.children", value: lang.DefaultSizes.Children, help: "how many children a span has at most"},
	{key: "limits.trace.ancestors", value: lang.DefaultSizes.Ancestors, help: "how many ancestors"},
	{key: "limits.trace.events", value: lang.DefaultSizes.Events, help: "how many events"},
	{key: "limits.trace.links", value: lang.DefaultSizes.Links, help: "how many links"},
	{key: "limits.trace.attributes", value: lang.DefaultSizes.Attributes, help: "how many attributes"},
	{key: "limits.trace.text_bytes", value: lang.DefaultSizes.Text, help: "how long a text is at most"},
	{key: "limits.trace.list", value: lang.DefaultSizes.List, help: "how long a list in an attribute is at most"},
}, append(accessSettings("tempo"), accessSettings("loki")...)...)

// accessSettings say how a server is reached.
func accessSettings(server string) []setting {
	var list []setting
	for _, s := range []setting{
		{key: "bearer_token", value: "", secret: true, help: "token sent as Authorization: Bearer"},
		{key: "bearer_token_file", value: "", help: "file that holds it"},
		{key: "user", value: "", help: "user of basic authentication"},
		{key: "password", value: "", secret: true, help: "its password"},
		{key: "password_file", value: "", help: "file that holds it"},
		{key: "headers", value: map[string]string{}, secret: true, help: "headers sent with each request"},
		{key: "tls.ca_file", value: "", help: "certificates (PEM) to trust besides the system's"},
		{key: "tls.cert_file", value: "", help: "the client's certificate"},
		{key: "tls.key_file", value: "", help: "its key"},
		{key: "tls.server_name", value: "", help: "the name that the server's certificate must have, if not the host's"},
		{key: "tls.insecure_skip_verify", value: false, help: "trust any certificate"},
	} {
		s.key = server + "." + s.key
		list = append(list, s)
	}
	return list
}

// config is the effective configuration.
type config struct {
	viper *viper.Viper
	file  string
}

func newConfig() *config { return &config{viper: viper.New()} }

func (c *config) addConfigFlag(root *cobra.Command) {
	root.PersistentFlags().StringVar(&c.file, "config", os.Getenv("BETRACE_CONFIG"), "configuration `file` (YAML)")
}

// addFlags gives a command the flags of all settings that have one.
func (c *config) addFlags(flags *pflag.FlagSet) {
	for _, s := range settings {
		if s.flag == "" {
			continue
		}
		switch v := s.value.(type) {
		case string:
			flags.String(s.flag, v, s.help)
		case int:
			flags.Int(s.flag, v, s.help)
		case time.Duration:
			flags.Duration(s.flag, v, s.help)
		case []string:
			flags.StringArray(s.flag, v, s.help)
		}
	}
}

func environmentName(key string) string {
	return "BETRACE_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// load reads the configuration for a command. Keys that do not exist, and values
// of a wrong type, are errors.
func (c *config) load(flags *pflag.FlagSet) error {
	for _, s := range settings {
		c.viper.SetDefault(s.key, s.value)
		if err := c.viper.BindEnv(s.key, environmentName(s.key)); err != nil {
			return fmt.Errorf("configuration: %w", err)
		}
		if f := flags.Lookup(s.flag); s.flag != "" && f != nil {
			if err := c.viper.BindPFlag(s.key, f); err != nil {
				return fmt.Errorf("configuration: %w", err)
			}
		}
	}
	if err := unknownEnvironment(); err != nil {
		return err
	}
	if c.file != "" {
		if err := c.readFile(); err != nil {
			return err
		}
	}
	return c.checkTypes()
}

// unknownEnvironment finds misspelt variables.
func unknownEnvironment() error {
	known := map[string]bool{"BETRACE_CONFIG": true, "BETRACE_STACK_CACHE": true}
	for _, s := range settings {
		known[environmentName(s.key)] = true
	}
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		// BETRACE_SERVICE_… and BETRACE_PORT… are what Kubernetes sets for a service of that name.
		if strings.HasPrefix(name, "BETRACE_") && !known[name] && !strings.HasPrefix(name, "BETRACE_SERVICE_") && !strings.HasPrefix(name, "BETRACE_PORT") {
			return fmt.Errorf("environment: there is no setting %s: betrace config check lists all", name)
		}
	}
	return nil
}

func (c *config) readFile() error {
	b, err := os.ReadFile(c.file)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(b, &root); err != nil {
		return fmt.Errorf("configuration %s: %w", c.file, err)
	}
	if len(root.Content) > 0 {
		if err := c.knownKeys(root.Content[0], ""); err != nil {
			return err
		}
	}
	c.viper.SetConfigType("yaml")
	c.viper.SetConfigFile(c.file)
	if err := c.viper.ReadInConfig(); err != nil {
		return fmt.Errorf("configuration %s: %w", c.file, err)
	}
	return nil
}

func (c *config) knownKeys(n *yaml.Node, prefix string) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("configuration %s:%d:%d: want keys and values", c.file, n.Line, n.Column)
	}
	for i := 0; i < len(n.Content); i += 2 {
		key := prefix + n.Content[i].Value
		isSetting := slices.ContainsFunc(settings, func(s setting) bool { return s.key == key })
		isGroup := slices.ContainsFunc(settings, func(s setting) bool { return strings.HasPrefix(s.key, key+".") })
		switch {
		case isGroup && !isSetting:
			if err := c.knownKeys(n.Content[i+1], key+"."); err != nil {
				return err
			}
		case !isSetting:
			return fmt.Errorf("configuration %s:%d:%d: there is no setting %s: betrace config check lists all", c.file, n.Content[i].Line, n.Content[i].Column, key)
		}
	}
	return nil
}

// checkTypes reads every setting as what it is, so that a wrong one is found.
func (c *config) checkTypes() error {
	var errs []error
	for _, s := range settings {
		have := c.viper.Get(s.key)
		var err error
		switch s.value.(type) {
		case time.Duration:
			if text, ok := have.(string); ok {
				_, err = time.ParseDuration(text)
			} else if _, ok := have.(time.Duration); !ok {
				err = errors.New("want a duration with its unit, as 15m")
			}
			if err == nil {
				err = s.checkSign(float64(c.viper.GetDuration(s.key)))
			}
		case int, float64:
			n := c.viper.GetFloat64(s.key)
			if text := fmt.Sprint(have); n == 0 && text != "0" {
				err = errors.New("want a number")
			} else {
				err = s.checkSign(n)
			}
		case bool:
			if text := fmt.Sprint(have); text != "true" && text != "false" {
				err = errors.New("want true or false")
			}
		case string:
			text, ok := have.(string)
			if !ok {
				err = errors.New("want a text")
			}
			if u, parseErr := url.Parse(text); parseErr == nil && u.User != nil && strings.HasPrefix(u.Scheme, "http") {
				server, _, _ := strings.Cut(s.key, ".")
				errs = append(errs, fmt.Errorf("configuration: %s holds a user: set %s.user and %[2]s.password, which are not shown", s.key, server))
			}
			if s.key == "tempo.blocks" && err == nil && strings.Contains(text, "://") {
				if err := blocks.CheckURL(text); err != nil {
					errs = append(errs, fmt.Errorf("configuration: tempo.blocks: %w", err))
				}
			}
		case []string:
			err = checkList(have)
		case map[string]string:
			err = checkMap(have)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("configuration: %s is %v: %w", s.key, have, err))
		}
	}
	return errors.Join(errs...)
}

// checkSign refuses what no setting means: below 0, and 0 of what a trace has.
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
				return fmt.Errorf("want a list of texts, not of %v", v)
			}
		}
		return nil
	}
	return errors.New("want a list of texts")
}

func checkMap(have any) error {
	switch m := have.(type) {
	case map[string]string:
		return nil
	case map[string]any:
		for k, v := range m {
			if _, ok := v.(string); !ok {
				return fmt.Errorf("%s is %v: want a text", k, v)
			}
		}
		return nil
	}
	return errors.New("want keys with texts")
}

// rulePaths returns the files and folders that hold the rule packs.
func (c *config) rulePaths() []string { return splitNames(c.viper.GetStringSlice("rules")) }

// access returns how the server of that name is reached.
func (c *config) access(server string) (tempoclient.Access, error) {
	get := func(key string) string { return c.viper.GetString(server + "." + key) }
	secret := func(key string) (string, error) {
		file := get(key + "_file")
		if file == "" {
			return get(key), nil
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("%s.%s_file: %w", server, key, err)
		}
		return strings.TrimSpace(string(b)), nil
	}
	token, tokenErr := secret("bearer_token")
	password, passwordErr := secret("password")
	if err := errors.Join(tokenErr, passwordErr); err != nil {
		return tempoclient.Access{}, err
	}
	if token != "" && get("user") != "" {
		return tempoclient.Access{}, fmt.Errorf("%s: a bearer token and a user are both set: keep one", server)
	}
	return tempoclient.Access{
		Tenant: c.viper.GetString("tenant"), BearerToken: token, User: get("user"), Password: password,
		Headers: c.viper.GetStringMapString(server + ".headers"),
		CAFile:  get("tls.ca_file"), CertFile: get("tls.cert_file"), KeyFile: get("tls.key_file"),
		ServerName: get("tls.server_name"), InsecureSkipVerify: c.viper.GetBool(server + ".tls.insecure_skip_verify"),
	}, nil
}

func (c *config) tempo() (tempoclient.Config, error) {
	access, err := c.access("tempo")
	return tempoclient.Config{
		URL: c.viper.GetString("tempo.url"), GRPCAddr: c.viper.GetString("tempo.grpc"), Access: access,
		Concurrency:          c.viper.GetInt("scan.concurrency"),
		MaxRequestsPerSecond: c.viper.GetFloat64("scan.max_requests_per_second"), MaxBytesPerSecond: c.viper.GetFloat64("scan.max_bytes_per_second"),
		PlainAttributes: c.viper.GetStringSlice("scan.plain_attributes"), SearchLimit: c.viper.GetInt("scan.search_limit"),
		MaxTraceDuration: c.viper.GetDuration("scan.max_trace_duration"),
		SearchAgainAfter: c.viper.GetDuration("scan.search_again_after"),
		RequestTimeout:   c.viper.GetDuration("scan.request_timeout"), Tries: c.viper.GetInt("scan.tries"),
	}, err
}

// otlp returns where violation spans go: what is set, or port 4317 of Tempo's host.
func (c *config) otlp() (tempoclient.WriterConfig, error) {
	access, err := c.access("tempo")
	if err != nil {
		return tempoclient.WriterConfig{}, err
	}
	u, err := url.Parse(c.viper.GetString("tempo.url"))
	if err != nil {
		return tempoclient.WriterConfig{}, fmt.Errorf("tempo.url: %w", err)
	}
	access.PlainText = u.Scheme == "http"
	addr := c.viper.GetString("tempo.otlp")
	if addr == "" {
		addr = net.JoinHostPort(u.Hostname(), "4317")
	}
	return tempoclient.WriterConfig{Addr: addr, Access: access, Tries: c.viper.GetInt("scan.tries")}, nil
}

func (c *config) ruleOptions() rules.Options {
	size := func(key string) int { return c.viper.GetInt("limits.trace." + key) }
	return rules.Options{
		MaxCost: c.viper.GetFloat64("limits.max_cost"), MaxExpressionBytes: c.viper.GetInt("limits.max_expression_bytes"),
		Sizes: lang.Sizes{
			Spans: size("spans"), Descendants: size("descendants"), Children: size("children"), Ancestors: size("ancestors"),
			Events: size("events"), Links: size("links"), Attributes: size("attributes"), Text: size("text_bytes"), List: size("list"),
		},
	}
}

func (p *program) configCommand() *cobra.Command {
	check := &cobra.Command{
		Use:   "check",
		Short: "Print the configuration that is in effect, as YAML, secrets hidden",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.config.load(cmd.Flags()); err != nil {
				return err
			}
			return p.config.print(p)
		},
	}
	p.config.addFlags(check.Flags())
	group := &cobra.Command{Use: "config", Short: "Look at the configuration"}
	group.AddCommand(check)
	return group
}

// print writes all settings with their help, as a file that could be read again.
func (c *config) print(p *program) error {
	tree := &yaml.Node{Kind: yaml.MappingNode}
	for _, s := range settings {
		parts := strings.Split(s.key, ".")
		at := tree
		for _, part := range parts[:len(parts)-1] {
			at = child(at, part)
		}
		value := c.viper.Get(s.key)
		if _, ok := s.value.(time.Duration); ok {
			value = c.viper.GetDuration(s.key).String()
		}
		switch v := value.(type) {
		case map[string]string:
			if s.secret {
				value = hidden(maps.Clone(v))
			}
		case map[string]any:
			if s.secret {
				value = hidden(c.viper.GetStringMapString(s.key))
			}
		default:
			if s.secret && v != "" {
				value = "<hidden>"
			}
		}
		var node yaml.Node
		if err := node.Encode(value); err != nil {
			return fmt.Errorf("configuration: %s: %w", s.key, err)
		}
		comment := strings.ReplaceAll(s.help, "`", "")
		at.Content = append(at.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: parts[len(parts)-1], HeadComment: comment}, &node)
	}
	encoder := yaml.NewEncoder(p.stdout)
	encoder.SetIndent(2)
	if err := encoder.Encode(tree); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return encoder.Close()
}

func hidden(m map[string]string) map[string]string {
	for k := range m {
		m[k] = "<hidden>"
	}
	return m
}

func child(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	m := &yaml.Node{Kind: yaml.MappingNode}
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, m)
	return m
}
