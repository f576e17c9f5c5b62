// Package rulestest makes random rules, of the whole language, and random traces, of the
// whole model, from a seed. Both draw from one small vocabulary, so that verdicts vary.
// Tests hold a faster way of judging against [rules.Rule.Judge] on them.
package rulestest
