// Package rulesets makes sets of rules about the traces of package batches: sets of any size, and a few
// rules that have counterparts in other engines.
package rulesets

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"

	"github.com/betracehq/betrace/bench/batches"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/trace/columnar"
)

// Rule is the source text of a rule.
type Rule struct {
	ID             string
	When           string
	Always, Never  string
	About, Message string
}

// Set returns n rules: the [Ten], then one rule from each template in turn. A smaller set is the
// beginning of a larger one. No two rules are equal.
func Set(n int) []Rule {
	set := append([]Rule{}, Ten...)
	seen := map[string]bool{}
	for _, r := range set {
		seen[r.decides()] = true
	}
	for i := len(Ten); i < n; i++ {
		t := templates[(i-len(Ten))*stride%len(templates)]
		for try := uint64(0); ; try++ {
			r := t.rule(fmt.Sprintf("rule-%05d", i), rand.New(rand.NewPCG(uint64(i), try)))
			if !seen[r.decides()] {
				seen[r.decides()] = true
				set = append(set, r)
				break
			}
		}
	}
	return set[:n]
}

// stride is the step through the templates, so that consecutive rules are of different kinds.
const stride = 17

func (r Rule) decides() string { return r.When + "\n" + r.Always + "\n" + r.Never }

var place = regexp.MustCompile(`\{(\w+)(?: (\d+) (\d+))?\}`)

// goneEvery: one rule in this many refers to names that no longer occur.
const goneEvery = 4

// rule fills the placeholders of a template.
func (t template) rule(id string, rng *rand.Rand) Rule {
	service := rng.IntN(len(batches.Services))
	gone := rng.IntN(goneEvery) == 0
	name := func(of []string) string {
		text := of[rng.IntN(len(of))]
		if gone {
			return fmt.Sprintf("%s-%02d", text, rng.IntN(100))
		}
		return text
	}
	known := map[string]string{
		"service": name(batches.Services[service : service+1]), "route": name(batches.Routes[service]), "table": name(batches.Tables[service]),
		"topic": name(batches.Topics[service]), "function": name(batches.Functions[service]), "host": name(batches.Hosts),
		"user": name([]string{"user-" + strconv.Itoa(rng.IntN(10_000))}), "tenant": name([]string{"tenant-" + strconv.Itoa(rng.IntN(200))}),
		"action": name([]string{"read", "update", "charge", "export", "grant"}),
		"class":  name([]string{"internal", "confidential", "personal", "special", "cardholder"}),
		"model":  name([]string{"gpt-4o", "gpt-4o-mini", "claude-sonnet", "claude-haiku", "mistral-large", "llama-70b"}),
		"tool":   name([]string{"search", "send_payment", "delete_account", "fetch_page", "query_orders", "send_mail"}),
	}
	known["prefix"] = known["route"][:strings.Index(known["route"], "/{")]
	callers := []string{}
	for _, c := range batches.Callers[service] {
		callers = append(callers, strconv.Quote(batches.Services[c]))
	}
	known["callers"] = strings.Join(append(callers, `"nobody"`), ", ")
	fill := func(text string) string {
		return place.ReplaceAllStringFunc(text, func(p string) string {
			m := place.FindStringSubmatch(p)
			if m[2] == "" {
				if v, ok := known[m[1]]; ok {
					return v
				}
				panic("rulesets: unknown placeholder " + p)
			}
			if v, ok := known[p]; ok {
				return v
			}
			low, _ := strconv.Atoi(m[2])
			high, _ := strconv.Atoi(m[3])
			v := strconv.Itoa(low + rng.IntN(high-low+1))
			if m[1] == "m" {
				known[p] = v
			}
			return v
		})
	}
	return Rule{ID: id, When: fill(t.when), Always: fill(t.always), Never: fill(t.never), About: fill(t.about), Message: fill(t.message)}
}

// Compile compiles rules.
func Compile(set []Rule) ([]*rules.Rule, error) {
	var b strings.Builder
	b.WriteString("apiVersion: betrace.dev/v1\nkind: RulePack\nmetadata: {name: bench, version: 1.0.0}\nrules:\n")
	for _, r := range set {
		fmt.Fprintf(&b, "  - id: %s\n    title: %s\n    severity: low\n    when: %s\n", r.ID, r.ID, quote(r.When))
		for _, f := range []struct{ key, text string }{{"always", r.Always}, {"never", r.Never}} {
			if f.text != "" {
				fmt.Fprintf(&b, "    %s: [%s]\n", f.key, quote(f.text))
			}
		}
		if r.About != "" {
			fmt.Fprintf(&b, "    about: %s\n", quote(r.About))
		}
		if r.Message != "" {
			fmt.Fprintf(&b, "    message: %s\n", quote(r.Message))
		}
	}
	pack, err := rules.Parse("bench.yaml", []byte(b.String()), rules.Options{})
	if err != nil {
		return nil, fmt.Errorf("rule set: %w", err)
	}
	return pack.Rules, nil
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// Needs returns the columns that rules read.
func Needs(rs []*rules.Rule) (needs columnar.Needs) {
	for _, r := range rs {
		needs = needs.Union(r.Needs())
	}
	return needs
}
