// Package rulestest generates random rules, which cover the whole language, and random traces, which
// cover the whole data model, from a seed. Both use one small vocabulary, so that verdicts vary. Tests
// compare faster methods of judging with [rules.Rule.Judge] on them.
package rulestest
