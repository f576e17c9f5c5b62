package analyzer

import (
	"slices"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/trace"
)

// violation returns the violation of a verdict on a trace.
func (o *ScanOptions) violation(v rules.Verdict, t *trace.Trace) evidence.Violation {
	r := v.Rule
	out := evidence.Violation{
		ID: evidence.ViolationID(o.Tenant, r.Pack.Name, r.ID, r.Digest, t.ID), Tenant: o.Tenant,
		Pack: r.Pack.Name, PackVersion: r.Pack.Version, RuleID: r.ID, RuleDigest: r.Digest,
		Title: r.Title, Severity: string(r.Severity), Controls: slices.Clone(r.Controls),
		Clause: v.Clause, Message: v.Message,
		TraceID: t.ID, TraceStart: t.Start(), RootService: t.RootService(), Services: t.Services(),
		Root:          evidence.RefOf(&t.Spans[max(t.Root(), 0)]),
		Circumstances: o.Circumstances,
	}
	out.Provisional = t.End().Time().After(o.SettledBefore)
	if out.WindowStart.IsZero() {
		out.WindowStart, out.WindowEnd = t.Start().Time(), t.End().Time()
	}
	for _, i := range v.About {
		out.About = append(out.About, evidence.RefOf(&t.Spans[i]))
	}
	return out
}
