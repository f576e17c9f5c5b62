// Command coverage prints the statement coverage of each package in a profile of go test -coverprofile,
// and fails if a package is below a minimum.
package main

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"

	"golang.org/x/tools/cover"
)

// exempt are packages that neither judge, read nor write: generated code, and programs that only
// developers of this repository run.
var exempt = map[string]bool{
	"github.com/betracehq/betrace/tempoclient/tempopb":    true,
	"github.com/betracehq/betrace/tools/coverage":         true,
	"github.com/betracehq/betrace/tools/mutation":         true,
	"github.com/betracehq/betrace/deploy/demo":            true,
	"github.com/betracehq/betrace/deploy/stack/cmd/stack": true,
	"github.com/betracehq/betrace/deploy/stack/stacktest": true,
}

func main() {
	minimum := flag.Float64("min", 0, "minimum `percentage` of statements that the tests must cover in each package")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: coverage [-min percentage] coverage.out")
		os.Exit(2)
	}
	profiles, err := cover.ParseProfiles(flag.Arg(0))
	if err != nil {
		fmt.Fprintf(os.Stderr, "coverage: read %s: %v\n", flag.Arg(0), err)
		os.Exit(2)
	}
	if low := report(os.Stdout, profiles, *minimum); low > 0 {
		fmt.Fprintf(os.Stderr, "coverage: %d packages are below %g%%: add tests for the uncovered statements (go tool cover -html=%s)\n", low, *minimum, flag.Arg(0))
		os.Exit(1)
	}
}

// report writes a line for each package and returns the number of packages below the minimum.
func report(w io.Writer, profiles []*cover.Profile, minimum float64) (low int) {
	type count struct{ covered, statements int }
	packages := map[string]count{}
	for _, p := range profiles {
		c := packages[path.Dir(p.FileName)]
		for _, b := range p.Blocks {
			c.statements += b.NumStmt
			if b.Count > 0 {
				c.covered += b.NumStmt
			}
		}
		packages[path.Dir(p.FileName)] = c
	}
	for _, name := range slices.Sorted(maps.Keys(packages)) {
		c := packages[name]
		share := 100 * float64(c.covered) / float64(max(c.statements, 1))
		note := ""
		switch {
		case exempt[name]:
			note = "  (exempt from the minimum)"
		case share < minimum:
			note = fmt.Sprintf("  below %g%%", minimum)
			low++
		}
		fmt.Fprintf(w, "%6.1f%%  %5d of %5d statements  %s%s\n", share, c.covered, c.statements, name, note)
	}
	return low
}
