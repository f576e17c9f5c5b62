package tracetest

import "github.com/betracehq/betrace/trace"

const keyTool = "gen_ai.tool.name"

// agentRun is an agent that queries its model, calls a tool, and queries the model again.
type agentRun struct{ agent, tool int }

func (b *builder) runAgent(tool trace.Value, meanwhile func(agentRun)) agentRun {
	agent := b.open(b.at, svcAgent, trace.KindInternal, "invoke_agent support")
	b.spans[agent].scope = scopeGenAI
	b.set(agent, str("gen_ai.operation.name", "invoke_agent"), str("gen_ai.provider.name", "openai"), str("gen_ai.agent.name", "support"),
		str("gen_ai.agent.id", "asst_5j66UpCpwteGg4YSxUnt7lPY"), str("gen_ai.conversation.id", b.word("c")))
	b.chat(agent, "tool_calls")
	call := b.open(agent, svcAgent, trace.KindInternal, "execute_tool")
	b.spans[call].scope = scopeGenAI
	b.set(call, str("gen_ai.operation.name", "execute_tool"), trace.Attribute{Key: keyTool, Value: tool}, str("gen_ai.tool.type", "function"),
		str("gen_ai.tool.call.id", b.word("call_")))
	if tool.Type() == trace.TypeString {
		b.spans[call].name += " " + tool.Str()
	}
	run := agentRun{agent, call}
	if meanwhile != nil {
		meanwhile(run)
	}
	b.close(call)
	b.chat(agent, "stop")
	b.close(agent)
	return run
}

func (b *builder) chat(parent int, finish string) {
	i := b.span(parent, svcAgent, trace.KindClient, "chat gpt-5", str("gen_ai.operation.name", "chat"), str("gen_ai.provider.name", "openai"),
		str("gen_ai.request.model", "gpt-5"), str("gen_ai.response.model", "gpt-5-2026-05-14"), dbl("gen_ai.request.temperature", 0.25), num("gen_ai.request.max_tokens", 2048),
		list("gen_ai.response.finish_reasons", trace.StringValue(finish)), num("gen_ai.usage.input_tokens", 200+b.rng.Int64N(4000)), num("gen_ai.usage.output_tokens", 10+b.rng.Int64N(800)),
		str("server.address", "api.openai.com"), num("server.port", 443))
	b.spans[i].scope = scopeGenAI
}

// useTool lets an agent call a tool. grant, if not nil, adds an approval during the call, on the call or on
// the agent.
func useTool(tool string, grant func(b *builder, run agentRun)) func(*builder) {
	return func(b *builder) {
		b.runAgent(trace.StringValue(tool), func(run agentRun) {
			if grant != nil {
				grant(b, run)
			}
		})
	}
}

func onTool(b *builder, run agentRun) {
	b.event(run.tool, "tool.approved", str("approval.by", "carol"))
}

func onAgent(b *builder, run agentRun) {
	b.event(run.agent, "tool.approved", str("approval.by", "carol"), str(keyTool, "send_payment"))
}

var toolCall = scene{name: "tool-call", rule: "tool-call-needs-approval", need: 4, ways: []way{
	{name: "harmless", doc: "A tool that needs no approval.", play: useTool("search_orders", nil)},
	{name: "approved", doc: "A payment with an approval on the call.", play: useTool("send_payment", onTool)},
	{name: "approved-by-agent", doc: "A payment with an approval of that tool on the agent that calls it.", play: useTool("send_payment", onAgent)},
	{name: "unapproved", violates: true, doc: "A payment without an approval.", play: useTool("send_payment", nil)},
	{name: "approved-other-tool", violates: true, doc: "A deletion while another tool was approved on the agent.", play: useTool("delete_records", onAgent)},
	{name: "approval-lost", violates: true, needs: Orphans, doc: "A payment approved on the agent, but the call names a missing parent.", play: func(b *builder) {
		b.spans[b.runAgent(trace.StringValue("send_payment"), func(run agentRun) { onAgent(b, run) }).tool].parent = lostParent
	}},
	{name: "list-of-tools", needs: Lists, doc: "A call of a list of tools: a list is not an element of a list of strings.", play: func(b *builder) {
		b.runAgent(trace.ArrayValue(trace.StringValue("send_payment")), nil)
	}},
	{name: "agent-late", needs: Late, doc: "A payment approved on the agent, whose span is in a later batch than the call.", play: func(b *builder) {
		b.spans[b.runAgent(trace.StringValue("send_payment"), func(run agentRun) { onAgent(b, run) }).agent].batch = 1
	}},
}}
