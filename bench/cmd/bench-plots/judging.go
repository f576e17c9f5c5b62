package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/betracehq/betrace/analyzer/engine"
	"github.com/betracehq/betrace/bench/batches"
	"github.com/betracehq/betrace/bench/rulesets"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/trace/columnar"
)

// judgingAxis is a parameter of judging that grows.
type judgingAxis struct {
	name, title, unit, text string
	points                  []int
	// of returns the rules and the traces of a point. The caller sets the number of spans.
	of func(x int) ([]rulesets.Rule, batches.Options)
}

// judgingSpans is the minimum number of spans for a point.
const judgingSpans = batches.PerBatch

// judgingRules is the number of rules unless an axis changes it.
const judgingRules = 100

var judgingAxes = []judgingAxis{
	{
		"judging-rules", "Rules", "rules",
		"Each rule has constants of its own. A smaller set is the beginning of a larger one.",
		[]int{1, 3, 10, 30, 100, 300, 1000, 3000, 10_000},
		func(x int) ([]rulesets.Rule, batches.Options) { return rulesets.Set(x), batches.Options{} },
	},
	{
		"judging-trace-size", "Spans per trace", "spans per trace",
		"The same number of spans in traces of one size. Rules that compare each span with all others, or with its ancestors, cost more in large traces.",
		[]int{1, 10, 100, 1000, 10_000, 100_000},
		func(x int) ([]rulesets.Rule, batches.Options) {
			return rulesets.Set(judgingRules), batches.Options{SpansPerTrace: x}
		},
	},
	{
		"judging-texts", "Distinct strings", "values of an attribute",
		"Rules that compare strings of four attributes. Each attribute has this number of distinct values.",
		[]int{1, 10, 100, 1000, 10_000, 100_000, 1_000_000},
		func(x int) ([]rulesets.Rule, batches.Options) {
			return rulesets.OfManyTexts(judgingRules), batches.Options{Texts: x}
		},
	},
	{
		"judging-attributes", "Attributes per span", "attributes that each span has and the rules read",
		"The same number of rules on one attribute or on many.",
		[]int{1, 2, 5, 10, 20, 50},
		func(x int) ([]rulesets.Rule, batches.Options) {
			return rulesets.OfPlain(judgingRules, x), batches.Options{Plain: x}
		},
	},
}

// judgingPoint is a measured point.
type judgingPoint struct {
	x        int
	perSpan  float64 // in nanoseconds
	spans    int
	verdicts engine.Counts
}

// measureJudging measures the axes, on one core, and draws them.
func measureJudging(ctx context.Context, images string, spans, repeat int) (string, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var page strings.Builder
	fmt.Fprintf(&page, judgingIntro, judgingRules, float64(spans)/1e6, batches.PerBatch, repeat, runtime.GOOS, runtime.GOARCH, runtime.Version())
	for _, a := range judgingAxes {
		var points []judgingPoint
		for _, x := range a.points {
			p, err := a.measure(ctx, x, spans, repeat)
			if err != nil {
				return "", fmt.Errorf("%s, %d: %w", a.name, x, err)
			}
			fmt.Fprintf(os.Stderr, "%s: %d: %.2f ns a span\n", a.name, x, p.perSpan)
			points = append(points, p)
		}
		if err := a.draw(points, filepath.Join(images, a.name+".svg")); err != nil {
			return "", fmt.Errorf("%s: %w", a.name, err)
		}
		fmt.Fprintf(&page, "\n## %s\n\n%s\n\n![cost per span by %s](performance/%s.svg)\n\n", a.title, a.text, strings.ToLower(a.title), a.name)
		fmt.Fprintf(&page, "| %s | ns per span | million spans/s | verdicts pass | violation | error |\n| --- | --- | --- | --- | --- | --- |\n", a.unit)
		for _, p := range points {
			fmt.Fprintf(&page, "| %d | %.2f | %.2f | %d | %d | %d |\n", p.x, p.perSpan, 1e3/p.perSpan, p.verdicts.Pass, p.verdicts.Violation, p.verdicts.Error)
		}
	}
	return page.String(), nil
}

// patience is the total time after which a point is not measured again.
const patience = 20 * time.Second

func (a judgingAxis) measure(ctx context.Context, x, spans, repeat int) (judgingPoint, error) {
	set, opts := a.of(x)
	rs, err := rulesets.Compile(set)
	if err != nil {
		return judgingPoint{}, err
	}
	opts.Seed, opts.Spans, opts.MistakeEvery = 1, max(spans, opts.SpansPerTrace), 200
	return measurePoint(ctx, x, rs, batches.Make(opts, rulesets.Needs(rs)), repeat)
}

// measurePoint judges batches several times. The least time of each batch counts.
func measurePoint(ctx context.Context, x int, rs []*rules.Rule, of []*columnar.Batch, repeat int) (judgingPoint, error) {
	p := judgingPoint{x: x}
	judge := engine.Compile(rs).NewJudge()
	least := make([]time.Duration, len(of))
	began := time.Now()
	for n := range repeat {
		runtime.GC()
		p.spans, p.verdicts = 0, engine.Counts{}
		for i, b := range of {
			start := time.Now()
			counts, err := judge.Each(ctx, b, nil, func([]engine.Found) error { return nil })
			if err != nil {
				return p, err
			}
			if took := time.Since(start); n == 0 || took < least[i] {
				least[i] = took
			}
			p.spans += b.NumSpans()
			for _, c := range counts {
				p.verdicts.Pass += c.Pass
				p.verdicts.Violation += c.Violation
				p.verdicts.Error += c.Error
			}
		}
		if n > 0 && time.Since(began) > patience {
			break
		}
	}
	if p.spans == 0 {
		return p, errors.New("no span was judged")
	}
	var sum time.Duration
	for _, took := range least {
		sum += took
	}
	p.perSpan = float64(sum.Nanoseconds()) / float64(p.spans)
	return p, nil
}

// draw writes an SVG of the cost per span. Both axes are logarithmic, except that the axis of cost is
// linear if the costs differ by less than a factor of 5.
func (a judgingAxis) draw(points []judgingPoint, path string) error {
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = a.unit, "ns per span"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	var xys plotter.XYs
	least, most := points[0].perSpan, points[0].perSpan
	for _, one := range points {
		xys = append(xys, plotter.XY{X: float64(one.x), Y: one.perSpan})
		least, most = min(least, one.perSpan), max(most, one.perSpan)
	}
	if most > 5*least {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
		p.Y.Min, p.Y.Max = least/1.5, most*1.5
	} else {
		p.Y.Min, p.Y.Max = 0, most*1.05
	}
	line, marks, err := plotter.NewLinePoints(xys)
	if err != nil {
		return err
	}
	marks.Shape = draw.CircleGlyph{}
	p.Add(plotter.NewGrid(), marks, line)
	canvas := vgsvg.New(14*vg.Centimeter, 7*vg.Centimeter)
	p.Draw(draw.New(canvas))
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := canvas.WriteTo(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

const judgingTitle = "# How judging grows\n"

const judgingIntro = judgingTitle + `
The time to judge spans in memory, in batches as a source fills them, by rules that were compiled together: %d rules
unless an axis changes the number. The rules are made from about forty templates, modelled on the rules of the shipped packs; a
quarter of them refers to names that do not occur. One trace in 200 does something that a rule may forbid. The time includes
the messages of violations. This part of the page is written by
` + "`make bench-plots BENCH_FLAGS='-only judging'`" + `.

A point is %.1f million generated spans in batches of %d, on one core. Its time is the sum over the batches of the least time in %d runs. %s/%s, %s.
`
