package tracetest

import "github.com/betracehq/betrace/trace"

type service uint8

const (
	svcWeb service = iota
	svcConsole
	svcCheckout
	svcPayment
	svcFraud
	svcVault
	svcOrders
	svcShipping
	svcLoyalty
	svcApprovals
	svcRefunds
	svcExporter
	svcAudit
	svcAgent
	svcInventory
	svcCatalog
	svcPricing
	svcSearch
	svcReviews
	svcGateway
	serviceCount
	noService = serviceCount
)

var serviceNames = [serviceCount]string{
	"web", "console", "checkout", "payment", "fraud", "vault", "orders", "shipping", "loyalty", "approvals", "refunds",
	"exporter", "audit", "support-agent", "inventory", "catalog", "pricing", "search", "reviews", "gateway",
}

// serviceLanguages are the programming languages of the services (telemetry.sdk.language).
var serviceLanguages = [serviceCount]string{
	"nodejs", "nodejs", "go", "java", "python", "rust", "java", "java", "go", "go", "java",
	"python", "go", "python", "go", "go", "dotnet", "java", "ruby", "go",
}

// resourceAttributes are the resource attributes of a service, without its environment.
var resourceAttributes = func() (all [serviceCount][]trace.Attribute) {
	for svc, name := range serviceNames {
		all[svc] = []trace.Attribute{
			str(trace.ServiceName, name), str("service.namespace", "shop"), str("service.version", "2026.8."+string(rune('0'+svc%10))),
			str("service.instance.id", name+"-7d9f8b6c5-x2x4z"), str("host.name", "node-"+string(rune('a'+svc%5))),
			str("k8s.namespace.name", "shop"), str("k8s.pod.name", name+"-7d9f8b6c5-x2x4z"), str("cloud.region", "eu-central-1"),
			str("telemetry.sdk.name", "opentelemetry"), str("telemetry.sdk.language", serviceLanguages[svc]), str("telemetry.sdk.version", "1.44.0"),
		}
	}
	return all
}()

const environmentKey = "deployment.environment.name"

// scope is an instrumentation scope: first those of libraries, then one for each service.
type scope uint8

const (
	scopeHTTP scope = iota
	scopeRPC
	scopeSQL
	scopeRedis
	scopeKafka
	scopeGenAI
	scopeNone  // empty name
	scopeOwn   // plus the number of the service
	scopeCount = scopeOwn + scope(serviceCount)
)

func ownScope(svc service) scope { return scopeOwn + scope(svc) }

func (s scope) names() (name, version string) {
	switch s {
	case scopeHTTP:
		return "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp", "0.69.0"
	case scopeRPC:
		return "go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc", "0.69.0"
	case scopeSQL:
		return "io.opentelemetry.jdbc", "2.25.0-alpha"
	case scopeRedis:
		return "opentelemetry.instrumentation.redis", "0.63b0"
	case scopeKafka:
		return "io.opentelemetry.kafka-clients-2.6", "2.25.0-alpha"
	case scopeGenAI:
		return "opentelemetry.instrumentation.openai_v2", "2.4b0"
	case scopeNone:
		return "", ""
	}
	return "shop/" + serviceNames[s-scopeOwn], "1.0.0"
}
