package rules

import "github.com/betracehq/betrace/rules/lang"

// Options are the limits that are checked when rules are loaded. The zero Options mean the defaults.
type Options struct {
	// MaxExpressionBytes limits the length of one expression. The default is 16 KiB.
	MaxExpressionBytes int
	// MaxCost limits a rule's cost, see [Rule.Cost]. The default is 1e11: two nested quantifiers over the
	// spans of a trace of the default Sizes are accepted, three are not.
	MaxCost float64
	// Sizes describe the trace for which a rule's cost is computed when it is loaded.
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
