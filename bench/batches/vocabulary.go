package batches

import (
	"fmt"
	"math/rand/v2"
)

// The vocabulary of the shop, which rules refer to.
var (
	// Services are the services of the shop. A service calls only services after it in this list.
	Services = serviceNames()
	// Routes are the HTTP routes, by service.
	Routes = perService(routesEach, func(domain string, i int) string {
		return fmt.Sprintf("/api/v%d/%s/{id}/%s", 1+i%3, domain, resourceWords[i%len(resourceWords)])
	})
	// Tables are the databases' tables, by service.
	Tables = perService(tablesEach, func(domain string, i int) string { return fmt.Sprintf("%s_%s", domain, tableWords[i]) })
	// Topics are the message topics, by service.
	Topics = perService(topicsEach, func(domain string, i int) string { return fmt.Sprintf("%s.%s", domain, topicWords[i]) })
	// Functions are the names of internal spans, by service.
	Functions = perService(functionsEach, func(domain string, i int) string { return fmt.Sprintf("%s.%s", domain, functionWords[i]) })
	// Hosts are the called hosts that are not services.
	Hosts = hostNames()
	// Callers are the services that call a service, as indices into Services.
	Callers [][]int
	callees [][]int
)

const (
	routesEach    = 6
	tablesEach    = 4
	topicsEach    = 2
	functionsEach = 5
)

var (
	domains       = []string{"gateway", "checkout", "orders", "billing", "refunds", "payment", "fraud", "ledger", "inventory", "shipping", "catalog", "search", "account", "notification", "analytics", "agent"}
	tiers         = []string{"", "-worker", "-store"}
	resourceWords = []string{"items", "summary", "status", "history", "export", "login"}
	tableWords    = []string{"entries", "accounts", "events", "audit"}
	topicWords    = []string{"created", "settled"}
	functionWords = []string{"validate", "load", "render", "score", "merge"}

	methods         = []string{"GET", "GET", "GET", "GET", "POST", "POST", "PUT", "DELETE"}
	dbSystems       = []string{"postgresql", "postgresql", "mysql", "redis", "cassandra"}
	dbOperations    = []string{"SELECT", "SELECT", "SELECT", "INSERT", "UPDATE", "DELETE"}
	environments    = []string{"production", "production", "production", "staging", "development"}
	regions         = []string{"eu-west-1", "eu-central-1", "us-east-1", "us-east-2", "us-west-2", "ap-south-1", "ap-southeast-2", "sa-east-1"}
	namespaces      = []string{"shop", "cde", "analytics", "platform"}
	statusCodes     = []int64{200, 200, 200, 200, 200, 200, 200, 201, 204, 304, 400, 401, 404, 409}
	errorTypes      = []string{"timeout", "connection_refused", "java.lang.IllegalStateException", "500", "503", "deadlock_detected", "canceled"}
	currencies      = []string{"EUR", "USD", "GBP", "JPY", "CHF"}
	classifications = []string{"public", "internal", "internal", "confidential", "personal", "personal", "special", "cardholder"}
	legalBases      = []string{"contract", "contract", "legal_obligation", "explicit_consent"}
	authnMethods    = []string{"mfa", "webauthn", "password", "certificate"}
	auditActions    = []string{"read", "update", "charge", "export", "grant"}
	models          = []string{"gpt-4o", "gpt-4o-mini", "claude-sonnet", "claude-haiku", "mistral-large", "llama-70b"}
	providers       = []string{"openai", "anthropic", "aws.bedrock", "azure.ai.openai"}
	tools           = []string{"search", "send_payment", "delete_account", "fetch_page", "query_orders", "send_mail"}
	toolEffects     = []string{"none", "irreversible", "irreversible", "untrusted_input", "private_data", "outbound"} // by tool
	tlsVersions     = []string{"1.2", "1.3", "1.3", "1.3"}
	userAgents      = []string{"Mozilla/5.0 (X11; Linux x86_64)", "Mozilla/5.0 (Macintosh)", "okhttp/4.12.0", "Go-http-client/2.0", "curl/8.5.0"}
	approvers       = []string{"ann", "bob", "carol", "dave"}
)

func serviceNames() []string {
	var names []string
	for _, tier := range tiers {
		for _, domain := range domains {
			names = append(names, domain+tier)
		}
	}
	return names
}

func perService(n int, name func(domain string, i int) string) [][]string {
	names := make([][]string, len(domains)*len(tiers))
	for s := range names {
		for i := range n {
			names[s] = append(names[s], name(domains[s%len(domains)]+tiers[s/len(domains)], i))
		}
	}
	return names
}

func hostNames() (names []string) {
	for i := range 80 {
		names = append(names, fmt.Sprintf("node-%02d.%s.internal", i, domains[i%len(domains)]))
	}
	for i := range 40 {
		names = append(names, fmt.Sprintf("api.partner-%02d.example.com", i))
	}
	return names
}

func init() {
	rng := rand.New(rand.NewPCG(7, 7))
	n := len(domains) * len(tiers)
	Callers, callees = make([][]int, n), make([][]int, n)
	for s := range n - 1 {
		for to := s + 1; to < n && len(callees[s]) < 6; to++ {
			// A gateway calls the services of the first tier; the others call their neighbours.
			if s == 0 && to > len(domains) {
				break
			}
			if rng.IntN(3) == 0 || s+1 == to {
				callees[s] = append(callees[s], to)
				Callers[to] = append(Callers[to], s)
			}
		}
	}
}
