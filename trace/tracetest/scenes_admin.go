package tracetest

import "github.com/betracehq/betrace/trace"

// runExport exports customers page by page. audit adds the audit entry below the page.
func (b *builder) runExport(audit func(parent int)) (exp, page int) {
	exp = b.open(b.at, svcExporter, trace.KindInternal, "admin.export")
	b.set(exp, str("export.entity", "customer"), num("export.rows", 1+b.rng.Int64N(10_000)))
	page = b.open(exp, svcExporter, trace.KindInternal, "export.page")
	if audit != nil {
		audit(page)
	}
	b.close(page)
	b.close(exp)
	return exp, page
}

func (b *builder) appendAudit(parent int) int {
	return b.span(parent, svcAudit, trace.KindInternal, "audit.append", str("audit.action", "export"), str("audit.log", "exports"))
}

var export = scene{name: "export", rule: "export-is-audited", need: 3, ways: []way{
	{name: "audited", doc: "An export that appends to the audit log two levels below.", play: func(b *builder) {
		b.runExport(func(page int) { b.appendAudit(page) })
	}},
	{name: "unaudited", violates: true, doc: "An export without an audit entry.", play: func(b *builder) { b.runExport(nil) }},
	{name: "audit-failed", violates: true, doc: "The audit entry could not be written.", play: func(b *builder) {
		b.runExport(func(page int) { b.throw(b.appendAudit(page), "audit.LogFull", "no space left") })
	}},
	{name: "audit-beside", violates: true, doc: "An audit entry beside the export, not below it.", play: func(b *builder) {
		b.appendAudit(b.at)
		b.runExport(nil)
	}},
	{name: "audit-orphaned", violates: true, needs: Orphans, doc: "An audit entry that names a missing parent: it does not descend from the export.", play: func(b *builder) {
		b.runExport(func(page int) { b.spans[b.appendAudit(page)].parent = lostParent })
	}},
	{name: "in-a-cycle", needs: Cycles, doc: "The export and its page are each other's parents, the audit entry is the page's child: it descends from both.", play: func(b *builder) {
		exp, page := b.runExport(func(page int) { b.appendAudit(page) })
		b.spans[exp].parent = int32(page)
	}},
	{name: "audit-late", needs: Late, doc: "The audit entry is late.", play: func(b *builder) {
		b.runExport(func(page int) { b.spans[b.appendAudit(page)].batch = 1 })
	}},
	{
		name: "failure-in-a-copy", violates: true, needs: UnequalCopies,
		doc: "Two copies of the audit entry, one of which failed: the status error is greater than unset.",
		play: func(b *builder) {
			b.runExport(func(page int) {
				audit := b.appendAudit(page)
				b.event(audit, "exception", str("exception.type", "audit.LogFull"))
				b.copySpan(audit, func(s *span) { s.status = trace.StatusError })
			})
		},
	},
}}

// refundTimes are the start and end of an approval and of a refund, in ns after the request for the approval.
type refundTimes struct{ approveStart, approveEnd, executeStart, executeEnd int64 }

const ms = 1_000_000

// approved, atOnce and so on are times as recorded by the clocks of both services.
var (
	inTime  = refundTimes{0, 20 * ms, 25 * ms, 60 * ms}
	atOnce  = refundTimes{0, 20 * ms, 20 * ms, 60 * ms}
	overlap = refundTimes{0, 20*ms + 1, 20 * ms, 60 * ms}
	tooLate = refundTimes{70 * ms, 90 * ms, 0, 60 * ms}
)

// payBack requests an approval, with its outcome as an attribute, and then refunds.
func (b *builder) payBack(at refundTimes, outcome trace.Attribute) (approve int) {
	b.pinned[svcApprovals], b.pinned[svcRefunds] = true, true
	ask := b.open(b.at, svcRefunds, trace.KindInternal, "refund.request")
	approve = b.open(ask, svcApprovals, trace.KindInternal, "refund.approve")
	b.set(approve, str("approval.by", "carol"))
	if outcome.Key != "" {
		b.set(approve, outcome)
	}
	execute := b.open(ask, svcRefunds, trace.KindInternal, "refund.execute")
	b.set(execute, num("refund.amount", 1+b.rng.Int64N(500)))
	a, e := &b.spans[approve], &b.spans[execute]
	a.start, a.end = b.clock+at.approveStart, b.clock+at.approveEnd
	e.start, e.end = b.clock+at.executeStart, b.clock+at.executeEnd
	b.clock = max(a.end, e.end)
	b.close(ask)
	return approve
}

func refundAs(at refundTimes, outcome trace.Attribute) func(*builder) {
	return func(b *builder) { b.payBack(at, outcome) }
}

// skewedRefund skews the clock of the approvals by up to MaxSkew, and at least by the hundred ms that reverse
// the order.
func skewedRefund(at refundTimes, sign int64) func(*builder) {
	return func(b *builder) {
		b.payBack(at, yes("refund.approved", true))
		b.skewed[svcApprovals] = sign * (100*ms + b.rng.Int64N(int64(b.opts.MaxSkew)-100*ms))
	}
}

var refund = scene{name: "refund", rule: "refund-after-approval", need: 3, ways: []way{
	{name: "approved", doc: "A refund after its approval ended.", play: refundAs(inTime, yes("refund.approved", true))},
	{name: "at-once", doc: "A refund that starts in the nanosecond in which its approval ends, which counts as before.", play: refundAs(atOnce, yes("refund.approved", true))},
	{name: "none", doc: "Nothing is refunded.", play: func(*builder) {}},
	{name: "unapproved", violates: true, doc: "A refund without an approval.", play: func(b *builder) {
		b.span(b.at, svcRefunds, trace.KindInternal, "refund.execute", num("refund.amount", 30))
	}},
	{name: "approved-later", violates: true, doc: "A refund before its approval.", play: refundAs(tooLate, yes("refund.approved", true))},
	{name: "overlapping", violates: true, doc: "A refund that starts a nanosecond before its approval ends.", play: refundAs(overlap, yes("refund.approved", true))},
	{name: "denied", violates: true, doc: "A refund after its approval was denied.", play: refundAs(inTime, yes("refund.approved", false))},
	{name: "approved-as-text", violates: true, needs: MixedTypes, doc: `The approval's outcome is "true", which is a string.`, play: refundAs(inTime, str("refund.approved", "true"))},
	{name: "approved-as-number", violates: true, needs: MixedTypes, doc: "The approval's outcome is 1, which is a number.", play: refundAs(inTime, num("refund.approved", 1))},
	{name: "no-outcome", violates: true, needs: MissingAttributes, doc: "The approval has no outcome.", play: refundAs(inTime, trace.Attribute{})},
	{name: "clock-ahead", violates: true, needs: ClockSkew, doc: "The clock of the approvals is ahead: by the recorded times the refund was first.", play: skewedRefund(inTime, 1)},
	{name: "clock-behind", needs: ClockSkew, doc: "The approval was after the refund, but its clock is behind: by the recorded times it was first.", play: skewedRefund(tooLate, -1)},
	{
		name: "negative-approval", violates: true, needs: EndBeforeStart,
		doc:  "The approval starts after the refund, and its recorded end is before it: an end before the start is set to the start.",
		play: refundAs(refundTimes{40 * ms, -1 * ms, 0, 60 * ms}, yes("refund.approved", true)),
	},
	{
		name: "negative-refund", needs: EndBeforeStart,
		doc:  "The recorded end of the refund is before its start: only the start counts.",
		play: refundAs(refundTimes{0, 20 * ms, 25 * ms, -5 * ms}, yes("refund.approved", true)),
	},
	{name: "approval-late", needs: Late, doc: "The approval is in a later batch.", play: func(b *builder) {
		approve := b.payBack(inTime, yes("refund.approved", true))
		b.spans[approve].batch = 1
	}},
}}

// admin and roles concern the root's attributes.
var admin = scene{name: "admin", rule: "admin-requests-name-a-user", ways: []way{
	{name: "user", doc: "A request to /admin/ with user.id.", play: func(*builder) {}},
	{name: "end-user", doc: "A request to /admin/ with enduser.id only.", play: func(b *builder) {
		b.unset(b.root, "user.id")
		b.set(b.root, str("enduser.id", b.word("e")))
	}},
	{name: "outside", doc: "A request without a user to /administrators, which does not begin with /admin/.", play: func(b *builder) {
		b.unset(b.root, "user.id")
		b.set(b.root, str("url.path", "/administrators"))
	}},
	{name: "anonymous", violates: true, doc: "A request to /admin/ without a user.", play: func(b *builder) { b.unset(b.root, "user.id") }},
	{name: "empty-user", needs: EmptyStrings, doc: `A request to /admin/ whose user is "": an empty value is present.`, play: func(b *builder) { b.set(b.root, str("user.id", "")) }},
	{name: "no-path", needs: MissingAttributes, doc: "A request without a user and without a path.", play: func(b *builder) {
		b.unset(b.root, "user.id")
		b.unset(b.root, "url.path")
	}},
	{name: "path-as-number", needs: MixedTypes, doc: "A request without a user whose path is a number, so it does not begin with /admin/.", play: func(b *builder) {
		b.unset(b.root, "user.id")
		b.set(b.root, num("url.path", 7))
	}},
	{name: "absent-user", violates: true, needs: AbsentValues, doc: "A request to /admin/ whose user has no type, so it is absent.", play: func(b *builder) {
		b.set(b.root, trace.Attribute{Key: "user.id"})
	}},
}}

// hold sets the roles of the root's user. The root may belong to the console or to another service.
func hold(roles trace.Attribute) func(*builder) {
	return func(b *builder) { b.set(b.root, roles) }
}

var roles = scene{name: "roles", rule: "admin-role-only-on-console", ways: []way{
	{name: "customer", doc: "A user of the role customer.", play: func(*builder) {}},
	{name: "several", doc: `Roles that resemble "admin".`, play: hold(list("user.roles", trace.StringValue("administrator"), trace.StringValue("Admin")))},
	{name: "admin-elsewhere", violates: true, doc: "A user of the role admin in another service than the console.", play: func(b *builder) {
		b.misuse(list("user.roles", trace.StringValue("customer"), trace.StringValue("admin")))
	}},
	{name: "text", needs: MixedTypes, doc: `The roles are the string "admin", which is not a list.`, play: hold(str("user.roles", "admin"))},
	{name: "empty", needs: EmptyLists, doc: "No roles.", play: hold(list("user.roles"))},
	{name: "mixed-list", violates: true, needs: MixedLists, doc: `Roles of several types, "admin" among them.`, play: func(b *builder) {
		b.misuse(list("user.roles", trace.IntValue(7), trace.StringValue("admin"), trace.BoolValue(true)))
	}},
	{name: "absent-elsewhere", needs: MissingAttributes, doc: "No roles at all.", play: func(b *builder) { b.unset(b.root, "user.roles") }},
}}

// misuse sets the root's roles outside of the console. If the root belongs to the console, it is moved to the
// gateway, which forwards to the console.
func (b *builder) misuse(roles trace.Attribute) {
	b.set(b.root, roles)
	if b.spans[b.root].service == svcConsole {
		b.spans[b.root].service = svcGateway
	}
}
