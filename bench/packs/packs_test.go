package packs_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/bench/dataset"
	"github.com/betracehq/betrace/bench/packs"
	"github.com/betracehq/betrace/trace/columnar"
)

// keys returns those of the listed attributes that are needed.
func keys(needs columnar.Needs, of []string) (found []string) {
	for _, name := range of {
		_, key, _ := strings.Cut(name, ".")
		for _, f := range needs.Attributes {
			if f.Key == key && !slices.Contains(found, name) {
				found = append(found, name)
			}
		}
	}
	return found
}

func TestTheFullPackReadsEightGenericAndSevenDedicatedAttributes(t *testing.T) {
	pack, err := packs.Full(100)
	require.NoError(t, err)
	require.Len(t, pack.Rules, 100)
	needs := packs.Needs(pack)
	require.Len(t, keys(needs, dataset.Generic), 8)
	require.Len(t, keys(needs, dataset.Dedicated), 7)
	require.Len(t, needs.Attributes, 15, "each attribute must be needed in one scope: %v", needs.Attributes)
	require.False(t, needs.Events || needs.Links || needs.All || needs.Whole != nil)
}

func TestTheIntrinsicPackReadsOneDedicatedAttribute(t *testing.T) {
	pack, err := packs.Intrinsic(20)
	require.NoError(t, err)
	needs := packs.Needs(pack)
	require.Equal(t, []string{"span.http.route", "resource.service.name"}, packs.Names(needs), "the service must be included, since it has a column of its own in every block")
	require.Equal(t, []string{"span.http.route"}, keys(needs, dataset.Dedicated))
}
