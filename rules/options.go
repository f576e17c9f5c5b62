package rules

import "github.com/betracehq/betrace/rules/lang"

// Options are the limits that rules are held to when they are loaded. The zero
// Options are the defaults.
type Options struct {
	// MaxExpressionBytes bounds the text of one expression. Default 16 KiB.
	MaxExpressionBytes int
	// MaxCost bounds a rule's cost, see [Rule.Cost]. Default 1e11: two nested
	// quantifiers over the spans of a trace of the default Sizes pass, three do not.
	MaxCost float64
	// Sizes are the trace that a rule's cost is worked out for when it is loaded.
	Sizes lang.Sizes
}

const (
	defaultMaxExpressionBytes = 16 << 10
	defaultMaxCost            = 1e11
)

func (o Options) withDefaults() Options {
	if o.MaxExpressionBytes == 0 {
		o.MaxExpressionBytes = defaultMaxExpressionBytes
	}
	if o.MaxCost == 0 {
		o.MaxCost = defaultMaxCost
	}
	if o.Sizes == (lang.Sizes{}) {
		o.Sizes = lang.DefaultSizes
	}
	return o
}
