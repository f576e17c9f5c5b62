package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/betracehq/betrace/analyzer"
	"github.com/betracehq/betrace/tempoclient"
)

// progressEvery is how often a line of progress is printed where there is no terminal.
const progressEvery = 10 * time.Second

// progress shows how far a scan is: a bar on a terminal, now and then a line elsewhere.
type progress struct {
	mu     sync.Mutex
	w      io.Writer
	bar    *progressbar.ProgressBar // nil: lines
	last   time.Time
	source tempoclient.Progress
	counts analyzer.TraceCounts
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w, last: time.Now()}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.bar = progressbar.NewOptions(100, progressbar.OptionSetWriter(w), progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(false), progressbar.OptionFullWidth())
	}
	return p
}

func (p *progress) read(source tempoclient.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.source = source
	p.show()
}

func (p *progress) judged(c analyzer.TraceCounts) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts = c
	p.show()
}

func (p *progress) show() {
	text := fmt.Sprintf("%.0f%% of the range searched, %d traces found, %d read, %d judged", 100*p.source.Searched, p.source.Found, p.source.Read, p.counts.Judged)
	if p.bar != nil {
		p.bar.Describe(text)
		_ = p.bar.Set(int(100 * p.source.Searched)) // a bar that cannot be drawn is no failure of the scan
		return
	}
	if time.Since(p.last) >= progressEvery {
		p.last = time.Now()
		fmt.Fprintln(p.w, text)
	}
}

// pause clears the bar, so that other lines can be written.
func (p *progress) pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Clear() // as above
	}
}

func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Finish() // as above
	}
}

func sortedNames(m map[string]int) []string { return slices.Sorted(maps.Keys(m)) }
