package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"runtime"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/betracehq/betrace/bench/dataset"
)

// draw writes an SVG of two plots, of time and of memory.
func (s series) draw(path string) error {
	times, err := s.plot("seconds", func(p point) float64 { return p.seconds })
	if err != nil {
		return err
	}
	memory, err := s.plot("peak MiB", func(p point) float64 { return p.mib })
	if err != nil {
		return err
	}
	canvas := vgsvg.New(20*vg.Centimeter, 7*vg.Centimeter)
	plots := [][]*plot.Plot{{times, memory}}
	tiles := draw.Tiles{Rows: 1, Cols: 2, PadX: vg.Centimeter, PadTop: vg.Millimeter, PadBottom: vg.Millimeter, PadRight: vg.Millimeter}
	for i, c := range plot.Align(plots, tiles, draw.New(canvas))[0] {
		plots[0][i].Draw(c)
	}
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

func (s series) plot(unit string, value func(point) float64) (*plot.Plot, error) {
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = s.unit, unit
	// Start at 0, so that small differences do not look large.
	p.Y.Min = 0
	if s.logarithmic {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	var xys plotter.XYs
	for _, one := range s.points {
		xys = append(xys, plotter.XY{X: one.x, Y: value(one)})
		p.Y.Max = math.Max(p.Y.Max, value(one)*1.05)
	}
	line, marks, err := plotter.NewLinePoints(xys)
	if err != nil {
		return nil, err
	}
	marks.Shape = draw.CircleGlyph{}
	p.Add(plotter.NewGrid(), marks)
	if s.name != "selectivity" { // its points differ in more than the parameter of the axis
		p.Add(line)
	}
	if !s.logarithmic {
		p.X.Min = 0
	}
	return p, nil
}

const intro = `# How reading grows

The time and the peak memory for reading traces from Tempo's blocks into memory for a pack of 100 rules. A point is the
median of %d readings, each in a process of its own. This page and its plots are written by ` + "`make bench-plots`" + `;
[bench/README.md](../bench/README.md) describes the data, and has comparisons with other programs.

Data: %.1f million spans in %d blocks that Tempo 2.8 wrote, %s/%s, %s. Unless an axis changes it, the files are local and 2 of %d cores are used. The whole pack reads 15 attributes, 7 of them
from dedicated columns.
`

// parts returns the page's parts on reading and on judging.
func parts(path string) (reads, judges string, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil
	}
	if err != nil {
		return "", "", err
	}
	reads, judges, found := strings.Cut(string(text), "\n"+judgingTitle)
	if found {
		judges = judgingTitle + judges
	}
	return reads, judges, nil
}

// writePage writes the page: the part on reading, then the part on judging.
func writePage(path, reads, judges string) error {
	if judges != "" {
		judges = "\n" + judges
	}
	return os.WriteFile(path, []byte(reads+judges), 0o644)
}

// readingPart is the part of the page that shows the plots of reading.
func readingPart(d dataset.Data, repeat int, measured []series) string {
	var b strings.Builder
	fmt.Fprintf(&b, intro, repeat, float64(d.Spans)/1e6, d.Blocks, runtime.GOOS, runtime.GOARCH, runtime.Version(), runtime.NumCPU())
	for _, s := range measured {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n![time and memory by %s](performance/%s.svg)\n\n", s.title, s.text, strings.ToLower(s.title), s.name)
		fmt.Fprintf(&b, "| %s | seconds | peak MiB | MB read |\n| --- | --- | --- | --- |\n", s.unit)
		for _, p := range s.points {
			fmt.Fprintf(&b, "| %s | %.2f | %.0f | %.0f |\n", p.label, p.seconds, p.mib, p.megabytes)
		}
	}
	return b.String()
}
