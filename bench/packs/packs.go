// Package packs makes the rule packs for the benchmarks of reading.
package packs

import (
	"fmt"
	"strings"

	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/trace/columnar"
)

// templates are rules with a number that makes each rule of a pack unique. Together they read 15
// attributes of package dataset, 8 generic ones and 7 that set A stores in dedicated columns. Most apply
// to many traces, and about one trace in 400 violates one of a hundred rules, because rules are meant for
// systems in which violations are rare.
var templates = []struct{ when, never string }{
	{
		`spans.exists(s, s["http.request.method"] == "POST" && s["http.response.status_code"] >= %d)`,
		`spans.exists(s, s["auth.mfa"] == false && s["payment.amount"] > 2600.5)`,
	},
	{
		`spans.exists(s, s["payment.amount"] > %d.5)`,
		`spans.exists(s, s["peer.service"] == "peer-service-07" && s["payment.amount"] > 2300)`,
	},
	{
		`spans.exists(s, s["customer.tier"] == "enterprise" && s["http.request.body.size"] > %d)`,
		`spans.exists(s, s.resource["cloud.region"] == "sa-east-1" && s["http.request.body.size"] > 55000)`,
	},
	{
		`spans.exists(s, s["user.id"] == "user-%05d")`,
		`spans.exists(s, s["deployment.environment.name"] == "production" && s["payment.amount"] > 2700)`,
	},
	{
		`spans.exists(s, s["retry.count"] > 3 && s["http.request.body.size"] > %d)`,
		`spans.exists(s, s["cache.hit"] == false && s["http.request.body.size"] > 52000)`,
	},
	{
		`spans.exists(s, s["db.system.name"] == "postgresql" && s["payment.amount"] < %d.25)`,
		`spans.exists(s, s["http.route"].startsWith("/api/v2/resources-1") && s["payment.amount"] > 2500)`,
	},
	{
		`spans.exists(s, s["messaging.destination.name"] == "orders.events.05" && s["http.request.body.size"] < %d)`,
		`spans.exists(s, s.kind == "consumer" && s.duration > duration("1s") && s["http.request.body.size"] > 45000)`,
	},
}

// Full returns a pack of n rules that reads 15 attributes.
func Full(n int) (*rules.Pack, error) {
	var b strings.Builder
	header(&b, "full")
	for i := range n {
		t := templates[i%len(templates)]
		rule(&b, i, fmt.Sprintf(t.when, 100+i*7), t.never)
	}
	return parse("full", b.String())
}

// Intrinsic returns a pack that reads the intrinsic fields of spans, the tree, and one attribute that set
// A stores in a dedicated column.
func Intrinsic(n int) (*rules.Pack, error) {
	var b strings.Builder
	header(&b, "intrinsic")
	for i := range n {
		rule(&b, i,
			fmt.Sprintf(`spans.exists(s, s.name == "checkout.submit" && s.duration > duration("%dms") && s.attributes["http.route"] == "/api/v2/resources-%02d/{id}/items")`, 10+i, i%60),
			`spans.exists(s, s.name == "ledger.post" && s.ancestors().exists(a, a.service == "checkout" && a.duration > duration("1950ms")))`)
	}
	return parse("intrinsic", b.String())
}

func header(b *strings.Builder, name string) {
	fmt.Fprintf(b, "apiVersion: betrace.dev/v1\nkind: RulePack\nmetadata: {name: bench-%s, version: 1.0.0}\nrules:\n", name)
}

func rule(b *strings.Builder, i int, when, never string) {
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
	fmt.Fprintf(b, "  - id: rule-%03d\n    title: Rule %d\n    severity: low\n    when: %s\n    never: [%s]\n", i, i, quote(when), quote(never))
}

func parse(name, text string) (*rules.Pack, error) {
	pack, err := rules.Parse("bench-"+name+".yaml", []byte(text), rules.Options{})
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", name, err)
	}
	return pack, nil
}

// Needs returns the columns that the rules of a pack read.
func Needs(pack *rules.Pack) (needs columnar.Needs) {
	for _, r := range pack.Rules {
		needs = needs.Union(r.Needs())
	}
	return needs
}

// Names returns the needed attributes as span.<key>, resource.<key> and, for either scope, .<key>.
func Names(needs columnar.Needs) []string {
	var names []string
	for _, f := range needs.Attributes {
		switch f.Scope {
		case columnar.ScopeSpan:
			names = append(names, "span."+f.Key)
		case columnar.ScopeResource:
			names = append(names, "resource."+f.Key)
		case columnar.ScopeAny:
			names = append(names, "."+f.Key)
		}
	}
	return names
}
