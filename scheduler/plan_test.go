package scheduler

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/trace/tracetest"
)

func TestCompiledRulesAreKeptUntilTheyChange(t *testing.T) {
	pack, err := rules.Parse("tracetest.yaml", []byte(tracetest.Pack), rules.Options{})
	require.NoError(t, err)
	schedule, err := ParseSchedule("@every 1m", "")
	require.NoError(t, err)
	service, err := New(ServiceOptions{State: &state.DB{}})
	require.NoError(t, err)
	of := func(tenant string, rs []*rules.Rule) *tick {
		p := &pass{tenant: tenant, sweeps: []*Sweep{{Name: "all", Schedule: schedule}}}
		return &tick{Service: service, memory: service.memoryOf(p), pass: p, rules: rs}
	}
	first := of("a", pack.Rules).plan()
	require.Same(t, first, of("a", append([]*rules.Rule{}, pack.Rules...)).plan())
	require.NotSame(t, first, of("b", pack.Rules[1:]).plan())
	require.Same(t, first, of("c", pack.Rules).plan(), "passes share it")
	require.Same(t, first, of("a", pack.Rules).plan(), "another pass changes nothing")

	again, err := rules.Parse("tracetest.yaml", []byte(tracetest.Pack), rules.Options{})
	require.NoError(t, err)
	changed := append([]*rules.Rule{again.Rules[0]}, pack.Rules[1:]...)
	require.NotSame(t, first, of("a", changed).plan())
}
