package rules

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/traceql"
)

// Rule is one compiled rule. It is immutable and safe for concurrent use.
type Rule struct {
	ID, Title, Description string
	Severity               Severity
	Controls               []string
	Labels                 map[string]string
	// TraceQL restricts the traces to which the rule applies. If nil, it does not.
	TraceQL *traceql.Filter
	// When, Always, Never, About and Message are CEL as in the pack, "" if absent.
	When           string
	Always, Never  []string
	About, Message string
	Tests          []Test
	// Aliases are the older names of the attributes that the rule reads, by key.
	Aliases lang.Aliases
	// Pack is the pack that contains the rule.
	Pack *Pack
	// Digest is the SHA-256, in hexadecimal, of everything that determines the verdict: traceql, when, always
	// and never, and the older names of the attributes that they read.
	Digest string

	limit          float64
	warnings       []error
	when           *lang.Expression
	clauses        []Clause
	about, message *lang.Expression
}

// Clause is one always or never clause.
type Clause struct {
	// Name is the clause's name in verdicts, such as "always[0]".
	Name       string
	Expression *lang.Expression
	// Broken is the value of the expression that breaks the clause.
	Broken bool
}

// Outcome is the outcome of a verdict.
type Outcome uint8

// The outcomes of a rule on a trace.
const (
	// NotApplicable means that the rule does not apply to the trace.
	NotApplicable Outcome = iota
	// Pass means that the rule applies and every clause holds.
	Pass
	// Violation means that the rule applies and a clause is broken.
	Violation
	// Error means that the verdict could not be determined. It never counts as a pass.
	Error
)

var outcomeNames = [...]string{"not_applicable", "pass", "violation", "error"}

// String returns the outcome as in reports and rule tests.
func (o Outcome) String() string { return outcomeNames[o] }

// Verdict is the verdict of a rule on a trace.
type Verdict struct {
	Rule    *Rule
	Outcome Outcome
	// Clause is the first broken clause: "always[0]", "never[1]", or "when" for a rule without clauses. It is
	// empty unless Outcome is Violation.
	Clause string
	// About are the indices of the spans that a violation concerns, without repetition.
	About []int
	// Message describes the violation.
	Message string
	// Err is the reason for the outcome Error.
	Err error
}

// Judge returns the rule's verdict on the trace. If the context ends during evaluation, the outcome is Error.
func (r *Rule) Judge(ctx context.Context, t *trace.Trace) Verdict {
	return r.JudgeSized(ctx, t, lang.SizesOf(t))
}

// JudgeSized is [Rule.Judge] for callers that judge a trace by many rules and have computed its sizes once.
//
// A part is evaluated only if the cost of it and the previous parts does not exceed the limit on a trace of
// these sizes. If it does, the outcome is Error if the part is when or a clause; about and message are
// omitted.
func (r *Rule) JudgeSized(ctx context.Context, t *trace.Trace, sizes lang.Sizes) Verdict {
	v := Verdict{Rule: r}
	fail := func(what string, err error) Verdict {
		v.Outcome, v.Err = Error, fmt.Errorf("rule %s: %s: %w", r.ID, what, err)
		return v
	}
	tooDear := func(programs ...*lang.Expression) error {
		if cost := lang.Cost(sizes, programs...); cost > r.limit {
			return fmt.Errorf("%.3g on this trace of %s, over the limit of %.3g: narrow the rule's quantifiers or raise limits.max_cost", cost, sizes, r.limit)
		}
		return nil
	}
	if r.TraceQL != nil && !r.TraceQL.Matches(t) {
		return v
	}
	if r.when != nil {
		if err := tooDear(r.when); err != nil {
			return fail("cost", err)
		}
		holds, err := r.when.IsTrue(ctx, t)
		if err != nil {
			return fail("when", err)
		}
		if !holds {
			return v
		}
	}
	if err := tooDear(r.programs(false)...); err != nil {
		return fail("cost", err)
	}
	var failed error
	for _, c := range r.clauses {
		holds, err := c.Expression.IsTrue(ctx, t)
		if err != nil {
			if failed == nil {
				failed = fmt.Errorf("%s: %w", c.Name, err)
			}
			continue
		}
		if holds == c.Broken {
			return r.Violated(ctx, t, c.Name, sizes)
		}
	}
	switch {
	case len(r.clauses) == 0:
		return r.Violated(ctx, t, ClauseWhen, sizes)
	case failed != nil:
		v.Outcome, v.Err = Error, fmt.Errorf("rule %s: %w", r.ID, failed)
	default:
		v.Outcome = Pass
	}
	return v
}

// ClauseWhen is the clause of a violated rule that has neither always nor never clauses.
const ClauseWhen = "when"

// Violated returns the verdict on a trace of these sizes that is known to break the given clause, the first
// in order. It evaluates about and message, which cannot change the outcome.
func (r *Rule) Violated(ctx context.Context, t *trace.Trace, clause string, sizes lang.Sizes) Verdict {
	v := Verdict{Rule: r, Outcome: Violation, Clause: clause, Message: r.Title}
	var about lang.SpanList
	if r.about != nil && lang.Cost(sizes, r.about) <= r.limit {
		about = r.about.Spans(ctx, t)
		v.About = about.Indices()
	}
	if r.message != nil && lang.Cost(sizes, r.about, r.message) <= r.limit {
		if text, ok := r.message.Text(ctx, t, about); ok {
			v.Message = text
		}
	}
	return v
}

// digest hashes traceql, when, and the lists always and never. Each string is hashed as its length (8 bytes,
// big-endian) and its bytes, each list as its length and its elements. An absent traceql or when is hashed as
// "". If these parts read attributes with older names, traceql is the filter with all names, and the list of
// the keys that CEL reads is appended, each with the list of its older names.
func (r *Rule) digest() string {
	h := sha256.New()
	number := func(n int) {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], uint64(n))
		h.Write(b[:]) // a hash never fails
	}
	text := func(s string) {
		number(len(s))
		h.Write([]byte(s))
	}
	query := ""
	if r.TraceQL != nil {
		query = r.TraceQL.String()
	}
	text(query)
	text(r.When)
	for _, list := range [][]string{r.Always, r.Never} {
		number(len(list))
		for _, s := range list {
			text(s)
		}
	}
	if read := r.aliasesThatDecide(); len(read) > 0 {
		number(len(read))
		for _, key := range sortedKeys(read) {
			text(key)
			number(len(read[key]))
			for _, name := range read[key] {
				text(name)
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// aliasesThatDecide returns the older names of the attributes that when, always and never read, by key.
func (r *Rule) aliasesThatDecide() lang.Aliases {
	read := lang.Aliases{}
	for _, p := range r.programs(false) {
		for key, older := range p.AliasesRead() {
			read[key] = older
		}
	}
	return read
}

// noteAlias records that the rule reads an attribute, if the attribute has older names.
func (r *Rule) noteAlias(table lang.Aliases, key string, isAttribute bool) {
	if !isAttribute || len(table[key]) == 0 {
		return
	}
	if r.Aliases == nil {
		r.Aliases = lang.Aliases{}
	}
	r.Aliases[key] = table[key]
}

// programs returns the expressions that determine the verdict, and with all also those that describe
// violations.
func (r *Rule) programs(all bool) []*lang.Expression {
	var ps []*lang.Expression
	if r.when != nil {
		ps = append(ps, r.when)
	}
	for _, c := range r.clauses {
		ps = append(ps, c.Expression)
	}
	if all && r.about != nil {
		ps = append(ps, r.about)
	}
	if all && r.message != nil {
		ps = append(ps, r.message)
	}
	return ps
}
