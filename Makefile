# make help lists the targets. A fresh machine needs Go, git and make.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The version is the nearest tag, or the commit. It is part of every record.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
# Omit symbols and the parts of gRPC that betrace does not use: the xDS clients, which Google's storage client
# links, and the trace pages, whose templates make the linker keep every method.
# The demo has the same flags, so that it shares the compiled packages.
RELEASE := -trimpath -tags disable_grpc_modules,grpcnotrace -ldflags '-s -w -X main.version=$(VERSION)'
BIN ?= bin/betrace
# Packages whose coverage must stay at 85% or more: those that judge, read or write.
COVERED := ./trace/... ./traceql/... ./analyzer/... ./tempoclient/... ./rules/... ./evidence/... ./cmd/... ./deploy/...

.PHONY: help build demo up down status test test-short pack-rates plan-cases equal new-blocks bench-read bench-engine bench-serve bench-plots torture race mutation plan-mutants lint generate clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

build: ## build bin/betrace
	@mkdir -p $(dir $(BIN))
	go build $(RELEASE) -o $(BIN) ./cmd/betrace

demo: build ## find violations in generated traces, then in a real Tempo and Loki that it starts and stops, also by the service
	@go run $(RELEASE) ./deploy/demo -betrace $(BIN)

up: ## start a Tempo and a Loki on loopback and keep them running; S3=1 adds a SeaweedFS that stores Tempo's blocks
	go run ./deploy/stack/cmd/stack up $(if $(S3),-s3)

down: ## stop the servers of make up
	go run ./deploy/stack/cmd/stack down

status: ## show the servers of make up
	go run ./deploy/stack/cmd/stack status

test: ## run all tests, including those on real servers, and check the coverage (the first run builds Tempo, Loki and SeaweedFS and fetches PostgreSQL: about 20 minutes on two cores)
	go run ./deploy/stack/cmd/stack build -all
	go vet ./...
	go test -timeout 40m -coverpkg=./... -coverprofile=coverage.out ./...
	go run ./tools/coverage -min 85 coverage.out
	GODEBUG=cpu.avx2=off go test -short ./trace/... ./traceql ./analyzer/...
	GODEBUG=cpu.avx2=off go test ./tempoclient/blocks -run '^TestRandomBlocks'
	go test ./analyzer/engine -run '^$$' -fuzz '^FuzzPlan$$' -fuzztime 1m
	cd bench && go vet ./... && go test ./...

test-short: ## run the tests that need no server
	go test -short ./...
	cd bench && go test -short ./...

pack-rates: ## judge a million random values of each kind by the packs' rules with patterns (about 25 minutes)
	go test ./rules/packs -run '^TestRulesTakeNoOtherValuesForWhatTheyLookFor$$' -v -count=1 -timeout 6h -rates.values 1000000

# Memory profiling is off: random expressions produce many stacks, and a large table of stacks slows down each GC.
plan-cases: ## compare 10,000,000 verdicts of random rules on random traces with the interpreter's, and pairs of equivalent rules (about 30 minutes)
	GOGC=400 GODEBUG=memprofilerate=0 go test ./analyzer/engine -run '^TestPlanEqualsOracle$$|^TestRandomConditions|^TestRulesWrittenTwiceAgree$$' -v -timeout 3h -plan.cases 5000000 -plan.seeds 32000 -plan.twice 100000

equal: ## compare 200 data sets as sent with the traces read from blocks and by the API (about 15 minutes)
	go run ./deploy/stack/cmd/stack build
	go test ./tempoclient/blocks -run '^TestEqual$$' -v -timeout 60m -equal.sets=200

new-blocks: ## judge new data in 100 rounds of blocks, late data and compactions, and compare with one scan (about 5 minutes)
	go run ./deploy/stack/cmd/stack build
	go test ./tempoclient/blocks -run '^TestNewBlocks$$' -v -timeout 30m -new.rounds=100

bench-read: ## measure the speed of reading blocks; FIGURES=<regexp> selects figures (the first run makes the data: about 10 minutes)
	cd bench && go run ./cmd/bench-read $(if $(FIGURES),-figures '$(FIGURES)') $(BENCH_FLAGS)

bench-engine: ## measure the speed of judging, compared with loops written by hand, cel-go and OTTL; FIGURES=<regexp> selects figures
	cd bench && go run ./cmd/bench-engine $(if $(FIGURES),-figures '$(FIGURES)') $(BENCH_FLAGS)

bench-serve: build ## measure the service: bytes read, the time of a tick, deliveries and restarts; FIGURES=<regexp> selects figures
	go run ./deploy/stack/cmd/stack build
	cd bench && go run ./cmd/bench-serve -betrace $(abspath $(BIN)) $(if $(FIGURES),-figures '$(FIGURES)') $(BENCH_FLAGS)

bench-plots: ## plot the growth of the time and memory of reading, and of the time of judging, into docs/performance.md
	cd bench && go run ./cmd/bench-plots $(BENCH_FLAGS)

torture: ## check the ledger of blocks in 10,000 random histories, and end the service 200 times at random moments (about 30 minutes)
	go run ./deploy/stack/cmd/stack build
	go test ./scheduler -run '^TestLedgerModel$$' -v -count=1 -timeout 3h -model.histories 10000
	go test ./cmd/betrace -run '^TestCrashesLoseNothing$$' -v -count=1 -timeout 3h -crashes 200

race: ## run all tests under the race detector
	go run ./deploy/stack/cmd/stack build -all
	go test -race -timeout 60m ./...

mutation: ## change the code in many places and check that the tests detect it
	go run ./deploy/stack/cmd/stack build -all
	go run ./tools/mutation

plan-mutants: ## change each operator, bound and number of the engine once and check that the tests detect it (about 90 minutes)
	go run ./tools/mutation -operators analyzer/engine -timeout 60s -test "$(PLAN_TESTS) -plan.seeds=30 -plan.cases=3000"

# The engine's tests of correctness that take only seconds.
PLAN_TESTS = -skip Attacks|Twice

lint: ## run the pinned linter
	go tool -modfile=tools/lint/go.mod golangci-lint run ./...
	cd bench && go tool -modfile=../tools/lint/go.mod golangci-lint run ./...

generate: ## regenerate generated files (schemas, reference pages, protobuf)
	go generate ./...

clean: ## remove built files from this folder
	rm -rf bin coverage.out
