package rulestest

import (
	"slices"
	"strings"

	"github.com/betracehq/betrace/rules"
)

// Shrink removes parts, clauses and parenthesized operands from a rule, as long as the smaller rule still
// fails.
func Shrink(r *rules.Rule, o rules.Options, fails func(*rules.Rule) bool) *rules.Rule {
	try := func(change func(*source)) bool {
		s := sourceOf(r)
		s.Always, s.Never = slices.Clone(s.Always), slices.Clone(s.Never)
		change(&s)
		pack, err := rules.Parse("random.yaml", packOf([]source{s}, r.Pack.Aliases), o)
		if err != nil || !fails(pack.Rules[0]) {
			return false
		}
		r = pack.Rules[0]
		return true
	}
	for _, without := range []func(*source){
		func(s *source) { s.Message = "" }, func(s *source) { s.About = "" }, func(s *source) { s.TraceQL = "" }, func(s *source) { s.When = "" },
	} {
		try(without)
	}
	clauses := func(of func(*source) *[]string) {
		for i := 0; ; {
			s := sourceOf(r)
			if i >= len(*of(&s)) {
				return
			}
			if !try(func(s *source) { *of(s) = slices.Delete(*of(s), i, i+1) }) {
				i++
			}
		}
	}
	clauses(func(s *source) *[]string { return &s.Always })
	clauses(func(s *source) *[]string { return &s.Never })
	texts := func(s *source) []*string {
		all := []*string{&s.When, &s.About, &s.Message}
		for i := range s.Always {
			all = append(all, &s.Always[i])
		}
		for i := range s.Never {
			all = append(all, &s.Never[i])
		}
		return all
	}
	first := sourceOf(r)
	for i := range texts(&first) {
		for again := true; again; {
			again = false
			s := sourceOf(r)
			for _, smaller := range smallerThan(*texts(&s)[i]) {
				if try(func(s *source) { *texts(s)[i] = smaller }) {
					again = true
					break
				}
			}
		}
	}
	return r
}

// smallerThan returns shorter variants of an expression: without everything around a parenthesized part,
// without that part, or without one side of && and ||. Few variants are valid expressions.
func smallerThan(x string) []string {
	var all []string
	for i := range x {
		switch {
		case x[i] == '(':
			depth := 0
			for j := i; j < len(x); j++ {
				switch x[j] {
				case '(':
					depth++
				case ')':
					depth--
				}
				if depth == 0 {
					inner := x[i+1 : j]
					all = append(all, inner, x[:i]+inner+x[j+1:], x[:i]+"true"+x[j+1:], x[:i]+"false"+x[j+1:])
					if _, body, ok := strings.Cut(inner, ", "); ok { // of a macro
						all = append(all, body, x[:i+1]+inner[:len(inner)-len(body)]+"true"+x[j:])
					}
					break
				}
			}
		case strings.HasPrefix(x[i:], " && "), strings.HasPrefix(x[i:], " || "), strings.HasPrefix(x[i:], " != "), strings.HasPrefix(x[i:], " == "):
			all = append(all, x[:i], x[i+4:])
			// Only the operand within the parentheses.
			from, to := i, i+4
			for depth := 0; from > 0; from-- {
				if x[from-1] == ')' {
					depth++
				} else if x[from-1] == '(' || depth == 0 && x[from-1] == ',' {
					if depth--; depth < 0 || x[from-1] == ',' {
						break
					}
				}
			}
			for depth := 0; to < len(x); to++ {
				if x[to] == '(' {
					depth++
				} else if x[to] == ')' {
					if depth--; depth < 0 {
						break
					}
				}
			}
			all = append(all, x[:from]+x[i+4:], x[:i]+x[to:])
		}
	}
	slices.SortFunc(all, func(a, b string) int { return len(a) - len(b) })
	all = slices.Compact(all)
	return slices.DeleteFunc(all, func(s string) bool { return len(s) >= len(x) || s == "" })
}
