package rules

import (
	"errors"
	"slices"
	"strings"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"go.yaml.in/yaml/v3"

	"github.com/betracehq/betrace/trace"
)

// Aliases maps the key of an attribute to the older names of the same attribute, the
// newest first. Where a rule reads the key, the first name that is present is read.
type Aliases map[string][]string

// includes are the tables that a pack can include by name.
var includes = map[string]Aliases{"otel": otelAliases}

// otelAliases are attributes that OpenTelemetry's semantic conventions renamed without a
// change of meaning or type. Sources, as of version 1.44: the schema file
// https://opentelemetry.io/schemas/1.44.0 (rename_attributes), attributes deprecated with
// renamed_to in the registry (https://opentelemetry.io/docs/specs/semconv/registry/attributes/),
// and the HTTP, database and RPC migration guides beside it.
//
// Attributes that were split, merged, or given another type or other values are left out:
// http.target, http.host, http.flavor, http.request_content_length_uncompressed and its
// response, net.peer.name and net.peer.port (of the server or the client, by the span's
// kind), net.sock.peer.name, net.sock.family, net.transport (ip_tcp became tcp),
// db.redis.database_index, rpc.service, rpc.grpc.status_code and rpc.jsonrpc.error_code
// (numbers became strings), enduser.role.
var otelAliases = Aliases{
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

// semconv reads a pack's table of older names: the included one, in which lists of the
// pack's own replace those of the same key.
func (d *document) semconv(n *yaml.Node) (Aliases, error) {
	table := Aliases{}
	var include string
	var includeAt *yaml.Node
	var errs []error
	own := map[string]*yaml.Node{}
	err := d.fields(n, "semconv", map[string]func(*yaml.Node) error{
		"include": func(n *yaml.Node) error { includeAt = n; return d.text(&include)(n) },
		"aliases": func(n *yaml.Node) error {
			if n.Kind != yaml.MappingNode {
				return d.errorf(n, "semconv: aliases: want a map from a key to the list of its older names")
			}
			for i := 0; i < len(n.Content); i += 2 {
				key, err := d.alias(n.Content[i], deref(n.Content[i+1]), own, table)
				errs = append(errs, err)
				own[key] = n.Content[i]
			}
			return nil
		},
	})
	errs = append(errs, err)
	if includeAt != nil {
		included, ok := includes[include]
		if !ok {
			errs = append(errs, d.errorf(includeAt, "semconv: include is %q: want %s", include, strings.Join(sortedKeys(includes), ", ")))
		}
		for key, older := range included {
			if own[key] == nil {
				table[key] = older
			}
		}
	}
	for _, key := range sortedKeys(table) {
		for _, older := range table[key] {
			if table[older] == nil {
				continue
			}
			at := own[key]
			if at == nil {
				at = own[older]
			}
			if slices.Contains(table[older], key) {
				if key < older || own[older] == nil {
					errs = append(errs, d.errorf(at, "semconv: %q and %q are older names of each other: keep the one that is newer", key, older))
				}
				continue
			}
			errs = append(errs, d.errorf(at, "semconv: %q, an older name of %q, has older names itself: list them for %q", older, key, key))
		}
	}
	for key, older := range table {
		if len(older) == 0 {
			delete(table, key)
		}
	}
	return table, errors.Join(errs...)
}

// alias reads one key and the list of its older names into the table.
func (d *document) alias(keyNode, list *yaml.Node, own map[string]*yaml.Node, table Aliases) (string, error) {
	var key string
	if err := d.text(&key)(keyNode); err != nil {
		return "", err
	}
	if own[key] != nil {
		return key, d.errorf(keyNode, "semconv: the key %q is listed twice, first on line %d: join both lists", key, own[key].Line)
	}
	var errs []error
	refuse := func(n *yaml.Node, name string) {
		switch {
		case name == "" || strings.ContainsRune(name, 0):
			errs = append(errs, d.errorf(n, "semconv: %q is no attribute's key", name))
		case name == trace.ServiceName:
			errs = append(errs, d.errorf(n, "semconv: %s has no other names: s.service and trace.services read it", trace.ServiceName))
		}
	}
	refuse(keyNode, key)
	table[key] = []string{}
	if list.Kind != yaml.SequenceNode {
		return key, errors.Join(append(errs, d.errorf(list, "semconv: want a list of the older names of %q, the newest first", key))...)
	}
	for _, n := range list.Content {
		n = deref(n)
		var name string
		if err := d.text(&name)(n); err != nil {
			errs = append(errs, err)
			continue
		}
		refuse(n, name)
		switch {
		case name == key:
			errs = append(errs, d.errorf(n, "semconv: %q is listed as an older name of itself", key))
			continue
		case slices.Contains(table[key], name):
			errs = append(errs, d.errorf(n, "semconv: %q is listed twice as an older name of %q", name, key))
			continue
		}
		table[key] = append(table[key], name)
	}
	return key, errors.Join(errs...)
}

// noteOlderNames notes which parts of the expression read attributes, and by which keys
// with older names. A key that is only known at run time has other names if it is written
// as a literal somewhere in the expression, as in ["a", "b"].exists(k, k in s.attributes).
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

// olderNames returns the older names of a key by which a part of the expression reads v.
// The keys within an attribute's value have none.
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

// index is v[key], by the first name of an attribute that is present.
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

// fieldOf returns a field of an object, or the value of a map's key, by the first name of
// an attribute that is present.
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

// contains is key in v, by any name of an attribute.
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
