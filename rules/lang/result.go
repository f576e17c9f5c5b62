package lang

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"github.com/betracehq/betrace/trace"
)

// IsTrue evaluates an expression as a boolean.
func (p *Expression) IsTrue(ctx context.Context, t *trace.Trace) (bool, error) {
	v := p.eval(ctx, t, nil)
	if types.IsError(v) {
		return false, errorOf(v)
	}
	return isTrue(v), nil
}

// SpanList is a list of spans that an expression returned. The zero SpanList is empty.
type SpanList struct{ list traits.Lister }

// Spans evaluates an expression as a list of spans. The list is empty if the result is not one.
func (p *Expression) Spans(ctx context.Context, t *trace.Trace) SpanList {
	list, _ := p.eval(ctx, t, nil).(traits.Lister)
	return SpanList{list}
}

// Indices returns the indices of the spans in their trace, without repetition.
func (l SpanList) Indices() []int {
	if l.list == nil {
		return nil
	}
	var indices []int
	seen := map[int]bool{}
	for it := l.list.Iterator(); it.HasNext() == types.True; {
		if s, ok := it.Next().(spanVal); ok && !seen[s.i] {
			seen[s.i] = true
			indices = append(indices, s.i)
		}
	}
	return indices
}

// Text evaluates an expression as a string. about is the value of the variable of that name. ok is false if
// the result is not a string.
func (p *Expression) Text(ctx context.Context, t *trace.Trace, about SpanList) (string, bool) {
	list := about.list
	if list == nil {
		list = types.NewRefValList(types.DefaultTypeAdapter, nil)
	}
	text, ok := p.eval(ctx, t, []variable{{"about", list}}).(types.String)
	return string(text), ok
}

func errorOf(v ref.Val) error {
	if err, ok := v.(*types.Err); ok {
		if inner := errors.Unwrap(err); inner != nil {
			return inner
		}
		return err
	}
	return fmt.Errorf("unexpected value %v", v)
}
