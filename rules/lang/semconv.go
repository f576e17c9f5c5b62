package lang

import (
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
)

// Aliases maps the key of an attribute to its older names, newest first. If a rule reads the key, the first
// name that is present is read.
type Aliases map[string][]string

// OTelAliases are the attributes that OpenTelemetry's semantic conventions renamed without a change of
// meaning or type. Sources, as of version 1.44, are the schema file https://opentelemetry.io/schemas/1.44.0
// (rename_attributes), attributes deprecated with renamed_to in the registry
// (https://opentelemetry.io/docs/specs/semconv/registry/attributes/), and the HTTP, database and RPC
// migration guides.
//
// Attributes that were split, merged, or given another type or other values are omitted: http.target,
// http.host, http.flavor, http.request_content_length_uncompressed and its response counterpart,
// net.peer.name and net.peer.port (of the server or the client, depending on the span's kind),
// net.sock.peer.name, net.sock.family, net.transport (ip_tcp became tcp), db.redis.database_index,
// rpc.service, rpc.grpc.status_code and rpc.jsonrpc.error_code (numbers became strings), enduser.role.
var OTelAliases = Aliases{
	// HTTP and URLs
	"http.request.method":       {"http.method"},
	"http.response.status_code": {"http.status_code"},
	"http.request.resend_count": {"http.resend_count", "http.retry_count"},
	"http.request.body.size":    {"http.request_content_length"},
	"http.response.body.size":   {"http.response_content_length"},
	"url.full":                  {"http.url"},
	"url.scheme":                {"http.scheme"},
	"user_agent.original":       {"http.user_agent"},
	// Network
	"client.address":           {"http.client_ip"},
	"server.address":           {"net.host.name", "http.server_name"},
	"server.port":              {"net.host.port"},
	"network.peer.address":     {"net.sock.peer.addr", "net.peer.ip"},
	"network.peer.port":        {"net.sock.peer.port"},
	"network.local.address":    {"net.sock.host.addr", "net.host.ip"},
	"network.local.port":       {"net.sock.host.port"},
	"network.protocol.name":    {"net.protocol.name", "net.app.protocol.name"},
	"network.protocol.version": {"net.protocol.version", "net.app.protocol.version"},
	"network.connection.type":  {"net.host.connection.type"},
	"service.peer.name":        {"peer.service"},
	// Databases
	"db.system.name":     {"db.system"},
	"db.namespace":       {"db.name", "db.elasticsearch.cluster.name"},
	"db.collection.name": {"db.sql.table", "db.mongodb.collection", "db.cosmosdb.container", "db.cassandra.table"},
	"db.operation.name":  {"db.operation"},
	"db.query.text":      {"db.statement"},
	// Messaging
	"messaging.operation.type":                {"messaging.operation"},
	"messaging.client.id":                     {"messaging.client_id", "messaging.kafka.client_id", "messaging.rocketmq.client_id"},
	"messaging.consumer.group.name":           {"messaging.kafka.consumer.group", "messaging.rocketmq.client_group", "messaging.eventhubs.consumer.group"},
	"messaging.destination.name":              {"messaging.destination"},
	"messaging.destination.temporary":         {"messaging.temp_destination"},
	"messaging.destination.subscription.name": {"messaging.servicebus.destination.subscription_name"},
	"messaging.message.id":                    {"messaging.message_id"},
	"messaging.message.conversation_id":       {"messaging.conversation_id"},
	"messaging.message.body.size":             {"messaging.message.payload_size_bytes", "messaging.message_payload_size_bytes"},
	"messaging.kafka.offset":                  {"messaging.kafka.message.offset"},
	// RPC
	"rpc.system.name": {"rpc.system"},
	"rpc.status_code": {"rpc.response.status_code", "rpc.connect_rpc.error_code"},
	// Deployment
	"deployment.environment.name": {"deployment.environment"},
	// Generative AI
	"gen_ai.provider.name":       {"gen_ai.system"},
	"gen_ai.request.seed":        {"gen_ai.openai.request.seed"},
	"gen_ai.usage.input_tokens":  {"gen_ai.usage.prompt_tokens"},
	"gen_ai.usage.output_tokens": {"gen_ai.usage.completion_tokens"},
}

// noteOlderNames records which parts of the expression read attributes, and by which keys with older names. A
// key that is known only at run time has older names if it is a literal somewhere in the expression, as in
// ["a", "b"].exists(k, k in s.attributes).
func (p *Expression) noteOlderNames(table Aliases) {
	if len(table) == 0 {
		return
	}
	p.reads, p.aliasesRead = map[int64]bool{}, Aliases{}
	reads := func(key string) {
		if older := table[key]; len(older) > 0 {
			p.aliasesRead[key] = older
		}
	}
	var literals []string
	anyKey := false
	ast.PreOrderVisit(p.root, ast.NewExprVisitor(func(x ast.Expr) {
		if text, ok := literalString(x); ok {
			literals = append(literals, text)
		}
		if _, key, ok := p.attribute(x); ok {
			p.reads[x.ID()] = true
			reads(key)
			return
		}
		if x.Kind() != ast.CallKind {
			return
		}
		args := x.AsCall().Args()
		var of, key ast.Expr
		switch x.AsCall().FunctionName() {
		case operators.Index, operators.OptIndex:
			of, key = args[0], args[1]
		case isIn:
			of, key = args[1], args[0]
		default:
			return
		}
		_, isAttributes := p.attributeMap(of)
		isAttributes = isAttributes || p.isA(of, "Span")
		if !isAttributes && !p.isKind(of, types.DynKind) {
			return
		}
		p.reads[x.ID()] = isAttributes
		if text, ok := literalString(key); ok {
			reads(text)
		} else {
			anyKey = true
		}
	}))
	if anyKey {
		for _, text := range literals {
			reads(text)
		}
	}
}

// olderNames returns the older names of a key by which a part of the expression reads v. Keys within an
// attribute's value have none.
func (e *evaluation) olderNames(x ast.Expr, v, key ref.Val) []string {
	if len(e.program.aliasesRead) == 0 {
		return nil
	}
	isAttributes, ok := e.program.reads[x.ID()]
	if _, isSpan := v.(spanVal); !ok || !isAttributes && !isSpan {
		return nil
	}
	text, _ := key.(types.String)
	return e.program.aliasesRead[string(text)]
}

// index evaluates v[key] with the first name of an attribute that is present.
func (e *evaluation) index(x ast.Expr, v, key ref.Val) ref.Val {
	if o, ok := v.(*types.Optional); ok {
		if !o.HasValue() {
			return o
		}
		return optionalOf(e.index(x, o.GetValue(), key))
	}
	older := e.olderNames(x, v, key)
	if len(older) == 0 {
		return index(v, key)
	}
	sets := []ref.Val{v}
	if s, ok := v.(spanVal); ok {
		sets = []ref.Val{attrMap{s.span().Attributes}, attrMap{s.span().Resource}}
	}
	for _, set := range sets {
		if found := index(set, key); !isAbsent(found) {
			return found
		}
		for _, name := range older {
			if found := index(set, types.String(name)); !isAbsent(found) {
				return found
			}
		}
	}
	return absent
}

// fieldOf returns a field of an object or the value of a map's key, using the first name of an attribute that
// is present.
func (e *evaluation) fieldOf(x ast.Expr, v ref.Val, field string) ref.Val {
	found := fieldOf(v, field)
	for _, name := range e.olderNames(x, v, types.String(field)) {
		if !isAbsent(found) {
			break
		}
		found = fieldOf(v, name)
	}
	return found
}

// contains evaluates key in v with all names of an attribute.
func (e *evaluation) contains(x ast.Expr, key, v ref.Val) ref.Val {
	found := contains(key, v)
	for _, name := range e.olderNames(x, v, key) {
		if found == types.True {
			break
		}
		found = contains(types.String(name), v)
	}
	return found
}
