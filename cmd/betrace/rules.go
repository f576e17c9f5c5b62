package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/betracehq/betrace/analyzer/engine"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/traceql"
)

func (p *program) rulesCommand() *cobra.Command {
	group := &cobra.Command{Use: "rules", Short: "Check, test, explain and mute rules, and import older ones"}
	group.AddCommand(p.rulesMuteCommand(), p.rulesUnmuteCommand(), p.rulesMutesCommand())
	add := func(use, short string, run func(cmd *cobra.Command, packs []*rules.Pack) error) *cobra.Command {
		cmd := &cobra.Command{
			Use: use + " PATH…", Short: short,
			RunE: func(cmd *cobra.Command, paths []string) error {
				if err := p.config.load(cmd.Flags()); err != nil {
					return err
				}
				packs, refused, err := p.loadRules(paths)
				if err != nil {
					return err
				}
				if err := run(cmd, packs); err != nil {
					return err
				}
				if refused > 0 {
					return exitError{exitFailed}
				}
				return nil
			},
		}
		group.AddCommand(cmd)
		return cmd
	}
	add("check", "Load packs and report their errors", func(_ *cobra.Command, packs []*rules.Pack) error {
		count := 0
		for _, pack := range packs {
			count += len(pack.Rules)
		}
		fmt.Fprintf(p.stdout, "usable: %s in %s\n", counted(count, "rule"), counted(len(packs), "pack"))
		return nil
	})
	add("list", "List the rules of packs", func(_ *cobra.Command, packs []*rules.Pack) error {
		w := tabwriter.NewWriter(p.stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "RULE\tSEVERITY\tTESTS\tCONTROLS\tTITLE")
		for _, pack := range packs {
			for _, r := range pack.Rules {
				fmt.Fprintf(w, "%s/%s\t%s\t%d\t%s\t%s\n", pack.Name, r.ID, r.Severity, len(r.Tests), strings.Join(r.Controls, ","), r.Title)
			}
		}
		return w.Flush()
	})
	add("test", "Run the tests that packs hold", p.testRules)
	explain := add("explain", "Show the prefilter, attributes, cost and evaluation of each rule", p.explainRules)
	explain.Flags().StringP("output", "o", "text", "`format`: text or json")
	group.AddCommand(p.rulesImportCommand())
	return group
}

// counted returns "1 rule", "2 rules".
func counted(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// loadRules reads packs. Refused rules are printed and counted; the others are used.
func (p *program) loadRules(paths []string) (packs []*rules.Pack, refused int, err error) {
	if len(paths) == 0 {
		return nil, 0, errors.New("no rules: name files or folders with rule packs")
	}
	if slices.Contains(paths, "") {
		return nil, 0, errors.New("an empty name of a rule pack: name files or folders")
	}
	packs, err = rules.Load(paths, p.config.ruleOptions())
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			fmt.Fprintln(p.stderr, "refused:", line)
			refused++
		}
	}
	for _, pack := range packs {
		for _, warning := range pack.Warnings {
			fmt.Fprintln(p.stderr, "warning:", warning)
		}
	}
	return packs, refused, nil
}

func (p *program) testRules(cmd *cobra.Command, packs []*rules.Pack) error {
	passed, failed := 0, 0
	for _, pack := range packs {
		for _, r := range pack.Rules {
			if len(r.Tests) == 0 {
				fmt.Fprintf(p.stderr, "warning: %s/%s has no tests\n", pack.Name, r.ID)
			}
			for _, result := range r.RunTests(cmd.Context()) {
				if result.Err == nil {
					passed++
					continue
				}
				failed++
				fmt.Fprintf(p.stdout, "FAIL %s/%s: %v\n", pack.Name, r.ID, result.Err)
			}
		}
	}
	fmt.Fprintf(p.stdout, "%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		return exitError{exitFailed}
	}
	return nil
}

// explanation is the output of rules explain for a rule.
type explanation struct {
	Rule       string   `json:"rule"`
	Prefilter  string   `json:"prefilter"`
	Sent       string   `json:"sent_to_tempo"`
	Attributes []string `json:"attributes"`
	Whole      []string `json:"all_attributes_of,omitempty"`
	// Aliases are older names of attributes that are read, too, by key.
	Aliases lang.Aliases `json:"aliases,omitempty"`
	Cost    float64      `json:"cost"`
	MaxCost float64      `json:"max_cost"`
	Digest  string       `json:"digest"`
	// Evaluation is the method of evaluation for each expression.
	Evaluation []evaluation `json:"evaluation"`
}

// evaluation is the method of evaluation for one expression.
type evaluation struct {
	Expression string `json:"expression"`
	Vectorised bool   `json:"vectorised"`
	ByRow      bool   `json:"by_row,omitempty"`
	// Reasons are the reasons why it is not vectorised.
	Reasons []string `json:"reasons,omitempty"`
}

// String returns the method as text.
func (e evaluation) String() string {
	switch {
	case !e.Vectorised:
		return e.Expression + " by the interpreter, where it matters: " + strings.Join(e.Reasons, "; ")
	case e.ByRow:
		return e.Expression + " vectorised, in part for one span at a time"
	}
	return e.Expression + " vectorised"
}

var scopeNames = map[traceql.Scope]string{
	traceql.ScopeAny: "span or resource", traceql.ScopeSpan: "span", traceql.ScopeResource: "resource",
	traceql.ScopeEvent: "event", traceql.ScopeLink: "link",
}

func (p *program) explainRules(cmd *cobra.Command, packs []*rules.Pack) error {
	format, err := cmd.Flags().GetString("output")
	if err != nil {
		return err
	}
	sizes := p.config.ruleOptions().Sizes
	var all []explanation
	for _, pack := range packs {
		plan := engine.Compile(pack.Rules)
		for i, r := range pack.Rules {
			needs := r.Needs()
			e := explanation{
				Rule: pack.Name + "/" + r.ID, Prefilter: r.Prefilter().String(), Sent: r.Prefilter().Prefilter().String(),
				Attributes: []string{}, Cost: r.Cost(sizes), MaxCost: p.config.Limits.MaxCost, Digest: r.Digest, Aliases: r.Aliases,
			}
			for _, f := range needs.Attributes {
				e.Attributes = append(e.Attributes, traceql.Field(f).String())
			}
			for _, s := range needs.Whole {
				e.Whole = append(e.Whole, scopeNames[s])
			}
			for _, part := range plan.Explain(i) {
				e.Evaluation = append(e.Evaluation, evaluation{part.Name, part.Vectorised(), part.ByRow, part.Reasons})
			}
			all = append(all, e)
		}
	}
	switch format {
	case "json":
		encoder := json.NewEncoder(p.stdout)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		return encoder.Encode(all)
	case "text":
		for _, e := range all {
			reads := strings.Join(e.Attributes, ", ")
			if len(e.Whole) > 0 {
				reads = strings.TrimPrefix(reads+", all attributes of "+strings.Join(e.Whole, ", "), ", ")
			}
			if reads == "" {
				reads = "no attributes"
			}
			fmt.Fprintf(p.stdout, "%s\n  prefilter   %s\n  to Tempo    %s\n  reads       %s\n  cost        %.3g of %.3g, on a trace of %s\n", e.Rule, e.Prefilter, e.Sent, reads, e.Cost, e.MaxCost, sizes)
			for i, key := range slices.Sorted(maps.Keys(e.Aliases)) {
				label := ""
				if i == 0 {
					label = "older names"
				}
				fmt.Fprintf(p.stdout, "  %-11s %s: %s\n", label, key, strings.Join(e.Aliases[key], ", "))
			}
			for i, part := range e.Evaluation {
				label := ""
				if i == 0 {
					label = "judged"
				}
				fmt.Fprintf(p.stdout, "  %-11s %s\n", label, part)
			}
		}
		return nil
	}
	return fmt.Errorf("output %q: want text or json", format)
}
