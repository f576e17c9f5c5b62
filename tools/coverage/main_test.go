package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/tools/cover"
)

func TestReportCountsPackagesBelowTheMinimum(t *testing.T) {
	profiles := []*cover.Profile{
		{FileName: "m/a/x.go", Blocks: []cover.ProfileBlock{{NumStmt: 9, Count: 1}}},
		{FileName: "m/a/y.go", Blocks: []cover.ProfileBlock{{NumStmt: 1, Count: 0}}},
		{FileName: "m/b/z.go", Blocks: []cover.ProfileBlock{{NumStmt: 1, Count: 4}, {NumStmt: 1, Count: 0}}},
		{FileName: "github.com/betracehq/betrace/deploy/demo/main.go", Blocks: []cover.ProfileBlock{{NumStmt: 1, Count: 0}}},
	}
	var out strings.Builder
	require.Equal(t, 1, report(&out, profiles, 85))
	require.Equal(t, `   0.0%      0 of     1 statements  github.com/betracehq/betrace/deploy/demo  (exempt from the minimum)
  90.0%      9 of    10 statements  m/a
  50.0%      1 of     2 statements  m/b  below 85%
`, out.String())
}
