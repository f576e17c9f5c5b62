package packs_test

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/rules/packs"
	"github.com/betracehq/betrace/trace"
)

var update = flag.Bool("update", false, "update docs/packs.md")

// operational are the packs for people who run services. The rules of all other packs are evidence, and
// name the controls that they are evidence for.
var operational = []string{"sre-reliability", "service-contracts", "ai-agents", "tempo-self"}

// unfiltered are the rules that read every trace, with the reason.
var unfiltered = map[string]string{
	"no-card-number-in-telemetry": "a card number may be in any attribute of any span",
}

// load reads all packs, sorted by name.
func load(t *testing.T) []*rules.Pack {
	t.Helper()
	files, err := fs.Glob(packs.FS, "*.yaml")
	require.NoError(t, err)
	var all []*rules.Pack
	for _, file := range files {
		data, err := packs.FS.ReadFile(file)
		require.NoError(t, err)
		pack, err := rules.Parse(file, data, rules.Options{})
		require.NoError(t, err)
		require.Equal(t, file, pack.Name+".yaml")
		all = append(all, pack)
	}
	return all
}

// each calls check with each rule of each pack.
func each(t *testing.T, check func(t *testing.T, r *rules.Rule)) {
	t.Helper()
	for _, pack := range load(t) {
		for _, r := range pack.Rules {
			t.Run(pack.Name+"/"+r.ID, func(t *testing.T) { check(t, r) })
		}
	}
}

func TestRuleIDsAreUniqueOverAllPacks(t *testing.T) {
	packOf := map[string]string{}
	for _, pack := range load(t) {
		require.NotEmpty(t, pack.Version, pack.Name)
		for _, r := range pack.Rules {
			require.Empty(t, packOf[r.ID], "%s is already in %s", r.ID, pack.Name)
			packOf[r.ID] = pack.Name
		}
	}
	require.GreaterOrEqual(t, len(packOf), 48)
	for id := range unfiltered {
		require.Contains(t, packOf, id)
	}
}

// controls are the formats of the identifiers of controls, by standard.
var controls = map[string]*regexp.Regexp{
	"soc2":      regexp.MustCompile(`^(CC[1-9]|A1|C1|PI1)\.[1-9]$`),
	"hipaa":     regexp.MustCompile(`^164\.[35][0-9]{2}(\([a-z0-9]+\))+$`),
	"pci-dss":   regexp.MustCompile(`^([1-9]|1[0-2])(\.[1-9][0-9]?){1,3}$`),
	"gdpr":      regexp.MustCompile(`^Art\.[1-9][0-9]?(\([1-9]\)(\([a-f]\))?)?$`),
	"iso27001":  regexp.MustCompile(`^A\.[5-8]\.[1-9][0-9]?$`),
	"iso42001":  regexp.MustCompile(`^A\.([2-9]|10)(\.[1-9])+$`),
	"fedramp":   regexp.MustCompile(`^[A-Z]{2}-[1-9][0-9]?(\([1-9][0-9]?\))?$`),
	"owasp-llm": regexp.MustCompile(`^LLM(0[1-9]|10)$`),
}

func TestRulesAreDescribedAndTested(t *testing.T) {
	each(t, func(t *testing.T, r *rules.Rule) {
		require.NotEmpty(t, r.Title)
		require.NotEmpty(t, r.Description)
		if !slices.Contains(operational, r.Pack.Name) {
			require.NotEmpty(t, r.Controls)
		}
		for _, control := range r.Controls {
			standard, id, _ := strings.Cut(control, ":")
			require.Contains(t, controls, standard)
			require.Regexp(t, controls[standard], id)
		}
		wants := map[rules.Outcome]int{}
		for _, test := range r.Tests {
			wants[test.Want]++
		}
		require.Positive(t, wants[rules.Violation], "no test of a violation")
		require.Positive(t, wants[rules.Pass], "no test of a pass")
		for _, result := range r.RunTests(t.Context()) {
			require.NoError(t, result.Err)
			// People read the message. If it fails, the title is used instead.
			if result.Verdict.Outcome == rules.Violation && r.Message != "" {
				require.NotEqual(t, r.Title, result.Verdict.Message, "test %q: the message fails", result.Test.Name)
			}
		}
	})
}

func TestPrefiltersAreNarrowAndMissNothing(t *testing.T) {
	each(t, func(t *testing.T, r *rules.Rule) {
		filter := r.Prefilter()
		if reason := unfiltered[r.ID]; reason != "" {
			require.True(t, filter.IsAll(), "the rule has a prefilter: remove it from unfiltered (%s)", reason)
		} else {
			require.False(t, filter.IsAll())
			require.False(t, filter.Prefilter().IsAll(), "the prefilter in Tempo matches every trace: %s", filter)
		}
		for _, test := range r.Tests {
			if v := r.Judge(t.Context(), test.Trace); v.Outcome != rules.NotApplicable {
				require.True(t, filter.Matches(test.Trace), "test %q: %s does not match", test.Name, filter)
				require.True(t, filter.Prefilter().Matches(test.Trace), "test %q: %s does not match", test.Name, filter.Prefilter())
			}
		}
	})
}

// By default Tempo keeps strings of up to 2 KiB, twice the length in the trace for which a rule's cost is
// computed. A rule must not fail because of such strings.
func TestCostsAreWithinTheLimitForLongTexts(t *testing.T) {
	sizes := lang.DefaultSizes
	sizes.Text = 2048
	each(t, func(t *testing.T, r *rules.Rule) {
		require.Less(t, r.Cost(sizes), 1e11)
	})
}

// attributes are the keys that rules may use: keys of OpenTelemetry's semantic conventions 1.41, and
// after them keys that applications set.
var attributes = strings.Fields(`
	cicd.pipeline.task.run.result cicd.pipeline.task.type
	client.address cloud.region
	db.namespace db.operation.name db.query.text db.response.returned_rows db.system.name
	deployment.environment.name
	enduser.id enduser.pseudo.id error.type
	exception.message exception.type
	feature_flag.key feature_flag.result.reason
	gen_ai.agent.name gen_ai.input.messages gen_ai.operation.name gen_ai.output.messages gen_ai.provider.name
	gen_ai.request.model gen_ai.response.finish_reasons gen_ai.response.model gen_ai.system_instructions
	gen_ai.tool.call.arguments gen_ai.tool.call.result gen_ai.tool.name gen_ai.usage.input_tokens gen_ai.usage.output_tokens
	http.request.header.idempotency-key http.request.method http.request.resend_count
	http.response.body.size http.response.status_code http.route
	mcp.method.name
	messaging.batch.message_count messaging.consumer.group.name messaging.destination.name messaging.message.id messaging.operation.type
	network.protocol.name network.transport
	rpc.system.name server.address
	service.criticality service.name service.namespace service.peer.name service.version
	session.id
	tls.cipher tls.established tls.protocol.name tls.protocol.version tls.server.not_after
	url.full url.path url.query url.scheme
	user.email user.full_name user.hash user.id user.name user.roles

	app.approval.by app.audit.action app.authn.method app.authz.decision app.consent.state
	app.data.classification app.data.legal_basis app.data.operation app.data.transfer_basis
	app.payment.amount app.recipient.agreement app.tenant.id app.tool.effect

	blockErrs
`)

// ofTests are further keys in tests of rules, which must have no effect on a rule.
var ofTests = strings.Fields(`b3.SpanId card.last4 errMsg liveBlocksSearched status_code try`)

// deprecated are keys of older instrumentation, with their replacements.
var deprecated = map[string]string{
	"http.method": "http.request.method", "http.status_code": "http.response.status_code", "http.url": "url.full",
	"http.target": "url.path", "http.scheme": "url.scheme", "http.host": "server.address", "http.client_ip": "client.address",
	"http.user_agent": "user_agent.original", "http.resend_count": "http.request.resend_count",
	"net.peer.name": "server.address", "net.peer.port": "server.port", "net.peer.ip": "network.peer.address", "net.host.name": "server.address",
	"db.system": "db.system.name", "db.statement": "db.query.text", "db.operation": "db.operation.name", "db.name": "db.namespace",
	"db.sql.table": "db.collection.name", "db.user": "", "db.connection_string": "server.address",
	"messaging.operation": "messaging.operation.type", "messaging.destination": "messaging.destination.name",
	"messaging.message_id": "messaging.message.id", "messaging.consumer_group": "messaging.consumer.group.name",
	"messaging.kafka.consumer.group": "messaging.consumer.group.name",
	"rpc.system":                     "rpc.system.name", "rpc.service": "rpc.method", "rpc.grpc.status_code": "rpc.response.status_code",
	"deployment.environment": "deployment.environment.name", "peer.service": "service.peer.name",
	"enduser.role": "user.roles", "enduser.scope": "", "exception.escaped": "",
	"gen_ai.system": "gen_ai.provider.name", "gen_ai.prompt": "gen_ai.input.messages", "gen_ai.completion": "gen_ai.output.messages",
	"gen_ai.usage.prompt_tokens": "gen_ai.usage.input_tokens", "gen_ai.usage.completion_tokens": "gen_ai.usage.output_tokens",
	"code.function": "code.function.name", "code.filepath": "code.file.path",
}

// keyed finds the keys that an expression reads: s["key"], "key" in s.attributes, and the strings in a
// list of keys.
var keyed = regexp.MustCompile(`\["([^"]+)"\]|"([^"]+)" in [a-z]+\.(?:attributes|resource)|"([a-z_]+(?:\.[a-z_]+)+)"[^\]]*\]\s*\.exists\(k,`)

func TestKeysAreThoseOfTodaysConventions(t *testing.T) {
	for _, key := range attributes {
		require.NotContains(t, deprecated, key)
	}
	each(t, func(t *testing.T, r *rules.Rule) {
		for _, source := range slices.Concat([]string{r.When, r.About, r.Message}, r.Always, r.Never) {
			for _, match := range keyed.FindAllStringSubmatch(source, -1) {
				key := match[1] + match[2] + match[3]
				require.Contains(t, attributes, key, "today's key: %q", deprecated[key])
			}
		}
		for _, test := range r.Tests {
			for _, span := range test.Trace.Spans {
				keys := keysOf(span.Attributes, span.Resource)
				for _, event := range span.Events {
					keys = append(keys, keysOf(event.Attributes)...)
				}
				for _, key := range keys {
					require.Contains(t, slices.Concat(attributes, ofTests), key, "test %q; current key: %q", test.Name, deprecated[key])
				}
			}
		}
	})
	// Strings outside of expressions, such as descriptions, are checked too.
	for _, pack := range load(t) {
		data, err := packs.FS.ReadFile(pack.Path)
		require.NoError(t, err)
		for key, today := range deprecated {
			found := regexp.MustCompile(`(?:^|[^a-z_.])` + regexp.QuoteMeta(key) + `(?:$|[^a-z_.])`).Find(data)
			require.Nil(t, found, "%s: %s was replaced by %q", pack.Path, key, today)
		}
	}
}

func keysOf(all ...trace.Attributes) []string {
	var keys []string
	for _, list := range all {
		for _, a := range list {
			keys = append(keys, a.Key)
		}
	}
	return keys
}

const docs = "../../docs/packs.md"

func TestDocsListTheRules(t *testing.T) {
	have, err := os.ReadFile(docs)
	if !*update {
		require.NoError(t, err)
	}
	want := string(have)
	for name, table := range map[string]string{"the packs": tables(load(t)), "the known rates": rateTable()} {
		begin, end := "<!-- generated from "+name+": go test ./rules/packs -update -->\n", "<!-- end of the generated part -->\n"
		before, rest, ok := strings.Cut(want, begin)
		_, after, ok2 := strings.Cut(rest, end)
		require.True(t, ok && ok2, "%s has no place for the table of %s", docs, name)
		want = before + begin + table + end + after
	}
	if *update {
		require.NoError(t, os.WriteFile(docs, []byte(want), 0o644))
		return
	}
	require.Equal(t, want, string(have), "run go test ./rules/packs -update")
}

func tables(all []*rules.Pack) string {
	var b bytes.Buffer
	count := 0
	for _, pack := range all {
		count += len(pack.Rules)
	}
	fmt.Fprintf(&b, "\n%d packs, %d rules.\n", len(all), count)
	for _, pack := range all {
		fmt.Fprintf(&b, "\n### %s\n\n| rule | severity | controls | title |\n| --- | --- | --- | --- |\n", pack.Name)
		for _, r := range pack.Rules {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.ID, r.Severity, strings.Join(r.Controls, ", "), r.Title)
		}
	}
	b.WriteByte('\n')
	return b.String()
}
