# Needs Go, make and nothing else: what is missing is found, built or installed on the way.
# Written for GNU make 3.81 and any POSIX shell.

TOOL  := go tool -modfile=tools/go.mod
STACK := go run ./internal/devstack/withstack

SCAN  := --config gitleaks.toml --no-banner --redact --verbose --log-level warn

# On Linux the race detector needs a C compiler; Go then says that cgo is enabled.
RACE := $(shell test "$$(go env CGO_ENABLED) $$(go env GOOS)" = "0 linux" || echo -race)

# Tests of databases and processes mostly wait: a small machine does three packages at once.
AT_ONCE := $(shell n=$$(getconf _NPROCESSORS_ONLN); test "$$n" -gt 3 && echo "$$n" || echo 3)

.DEFAULT_GOAL := help
.PHONY: help run build test test-pages test-short test-s3 test-pooler test-pooler-short test-affinity test-browser test-browser-short bench test-bench instructions laws chaos economy tarpit overload guarantees ops lint vulncheck fmt generate reference drawings pictures check-generated

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## Run everything on this machine: Postgres, Temporal and its UI, worker, API (ARGS="--port 8081")
	@exec bin/tollgate dev $(ARGS)

build: ## Build the programs into bin/
	@mkdir -p bin
	go build -o bin/ ./cmd/api ./cmd/worker ./cmd/tollgate

# Fifty programs link by a quarter faster without what debuggers read (-w).
test: ## Run every test under the race detector, on a real Postgres and a real Temporal
	@test -n "$(RACE)" || echo "There is no C compiler: the tests run WITHOUT the race detector." >&2
	$(STACK) go test $(RACE) -vet=off -ldflags=-w -p $(AT_ONCE) -count=1 -timeout 18m ./...

test-short: ## Run the tests that need no server, in seconds
	go test -short $$(go list -f '{{.ImportPath}} {{join .TestImports " "}} {{join .XTestImports " "}}' ./... \
		| grep -v -E 'internal/(devstack|pgtest|stripetest|temporaltest)' | cut -d ' ' -f 1)

test-pages: ## Visit every page with 100,000 organizations in the store, and print times, rows and weights (ORGANIZATIONS)
	$(STACK) go test -count=1 -timeout 15m -v -run '^TestPagesOfManyOrganizations$$' ./web -organizations $(or $(ORGANIZATIONS),100000)

test-s3: ## Try exports on a server that speaks S3's protocol (the first run builds it: some minutes)
	go test -tags s3 -count=1 -timeout 25m -v -run '^TestS3' ./internal/blobstore

test-pooler: ## Try everything behind PgBouncer, which is installed on the way: sessions, the store, the programs (TOLLGATE_POOLER_KILLS)
	$(STACK) go test -tags pooler -count=1 -timeout 25m ./pgstore/...
	TOLLGATE_POOLER_KILLS=$(or $(TOLLGATE_POOLER_KILLS),20) \
		$(STACK) go test -tags pooler -count=1 -timeout 25m -v -run '^Test(Pooler|FailoverBehindAPooler)' ./e2e

# One package after the other: the first one installs what is missing.
test-pooler-short: ## The same in short: what poolers do, and the programs behind them
	TOLLGATE_POOLER_KILLS=2 $(STACK) go test -tags pooler -p 1 -count=1 -timeout 5m -run '^(TestFind|TestKeeps|TestSessions|TestTenants|TestPooler)' ./pgstore/... ./e2e

test-affinity: ## Try two replicas behind HAProxy, which is installed on the way: a key is served by one of them, also where one is killed
	$(STACK) go test -tags affinity -count=1 -timeout 5m -v -run '^TestAffinity$$' ./e2e

test-browser: ## Try the pages in headless Chromium, which is installed on the way where apt-get can, with axe-core on each (TOLLGATE_SHOTS keeps pictures)
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || apt-get install -y chromium >/dev/null
	$(STACK) go test -tags browser -count=1 -timeout 15m -v -run '^TestBrowser' ./web/... ./e2e

test-browser-short: ## The same in short: the tenant's path alone
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || apt-get install -y chromium >/dev/null
	$(STACK) go test -tags browser -count=1 -timeout 5m -v -run '^TestBrowserTenant$$' ./web

bench: ## Measure all beside what one would use instead, in one table of ratios with its goals: an hour and a half on an idle machine, 40 minutes with BENCH_ROUNDS=1, 5 GiB (BENCH="http flush", BENCH_SHORT=1, BENCH_FULL=1, BENCH_ROUNDS, BENCH_WRITE=1)
	cd bench && go run . $(if $(BENCH),-parts "$(BENCH)") $(if $(BENCH_ROUNDS),-rounds $(BENCH_ROUNDS)) $(if $(BENCH_SHORT),-short) $(if $(BENCH_FULL),-full) $(if $(BENCH_WRITE),-write)

test-bench: ## Try what reads benchmarks and makes their table
	cd bench && go test -count=1 .

instructions: ## Count what a decision takes, in instructions, by Valgrind, which is installed on the way where apt-get can; x86-64 Linux alone (RECORD=-record)
ifeq ($(shell uname -sm),Linux x86_64)
	@command -v valgrind >/dev/null || apt-get install -y valgrind >/dev/null
	go test -tags instructions -count=1 -timeout 5m -v -run '^TestInstructions$$' ./meter $(RECORD)
else
	@echo "Instructions are counted on x86-64 Linux alone: nothing was compared." >&2
endif

laws: ## Try the laws of the meter, its journal and the store with many more runs than make test does (CHECKS of each)
	go test -count=1 -timeout 60m ./meter -rapid.checks=$(or $(CHECKS),2000)
	go test -count=1 -timeout 60m ./meter/journal -rapid.checks=$(or $(CHECKS),500) -every 1
	$(STACK) go test -count=1 -timeout 60m -run '(Model|Totals)$$' ./pgstore -rapid.checks=$(or $(CHECKS),500)

chaos: ## Break replicas, worker, servers, networks and disks, and hold the accounts after it (CHAOS_SEED, CHAOS_FAULTS, CHAOS_ROUNDS, CHAOS_MINUTES, TOLLGATE_KILLS)
	CHAOS_FAULTS=$(or $(CHAOS_FAULTS),30) CHAOS_ROUNDS=$(or $(CHAOS_ROUNDS),3) TOLLGATE_KILLS=$(or $(TOLLGATE_KILLS),100) TOLLGATE_CLOSE_KILLS=all \
		$(STACK) go test -v -count=1 -timeout 60m -run '^(TestChaos|TestACloseSurvivesKills|TestKills|TestThreeReplicas|TestTheLastUnit)' ./e2e

economy: ## Measure what an instance costs of Temporal, for 10 minutes (ECONOMY)
	$(STACK) go test -v -count=1 -timeout 100m -run '^TestServerAnInstanceIsCheap$$' ./workflows -economy $(or $(ECONOMY),10m)

tarpit: ## Deliver 50,000 events to receivers that hang, and close a month meanwhile (TARPIT)
	$(STACK) go test -v -count=1 -timeout 20m -run '^TestServerATarpit' ./workflows -tarpit $(or $(TARPIT),50000)

overload: ## Measure an API at twice what it can take, on a machine that is idle otherwise (OVERLOAD_SECONDS, OVERLOAD_CONNECTIONS)
	OVERLOAD_SECONDS=$(or $(OVERLOAD_SECONDS),5) $(STACK) go test -v -count=1 -timeout 10m -run '^TestOverload$$' ./e2e

guarantees: ## Run all faults mixed, and write docs/guarantees.md (CHAOS_SEED, CHAOS_ROUNDS, CHAOS_MINUTES of each)
	CHAOS_WRITE=1 CHAOS_FAULTS=$(or $(CHAOS_FAULTS),30) CHAOS_ROUNDS=$(or $(CHAOS_ROUNDS),3) CHAOS_MINUTES=$(or $(CHAOS_MINUTES),10) \
		$(STACK) go test -v -count=1 -timeout 90m -run '^TestChaos$$' ./e2e

ops: ## Check alert rules and dashboards with Prometheus' own packages (the first run compiles them: some minutes)
	cd ops && go test -count=1 ./...

lint: ## Check the source: golangci-lint, that workflows are deterministic, the compose file, that no secret is in tree or history
	$(TOOL) golangci-lint run ./...
	cd ops && go tool -modfile=../tools/go.mod golangci-lint run ./...
	cd bench && go tool -modfile=../tools/go.mod golangci-lint run ./...
	$(TOOL) workflowcheck -config tools/workflowcheck.yaml ./workflows/...
	cd tools && go test ./... && go run ./composecheck ../docker-compose.yml
	cd tools/secrets && go test ./... && go tool gitleaks dir $(SCAN) ../.. && go tool gitleaks git $(SCAN) ../..

vulncheck: ## Look for known vulnerabilities in what is called; fails on those of modules, and lists Go's own
	cd tools && go run ./vulncheck -C .. ./...

fmt: ## Format the source
	$(TOOL) golangci-lint fmt ./...

generate: ## Generate the code of queries (sqlc) and of the API (oapi-codegen)
	CGO_ENABLED=0 go generate ./...

reference: ## Write the pages of docs/reference anew, from the code
	go test -count=1 -run '^TestReference' ./api ./cmd/internal/app ./cmd/tollgate ./internal/docstest -write-reference

drawings: ## Draw anew what documents describe for Mermaid (docs/pictures/*.svg), in Chromium, with Mermaid's script, which comes by npm
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || apt-get install -y chromium >/dev/null
	TOLLGATE_DRAW=1 go test -tags browser -count=1 -run '^TestDraw$$' ./web/site

pictures: ## Take the pictures of docs/pictures anew, and README's film, from the real pages in Chromium
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || apt-get install -y chromium >/dev/null
	@shots=$$(mktemp -d) && trap 'rm -r "$$shots"' EXIT && \
		TOLLGATE_SHOTS="$$shots" $(STACK) go test -tags browser -count=1 -timeout 15m -run '^TestBrowser' ./web ./e2e && \
		for picture in docs/pictures/*.png docs/pictures/*.gif; do cp "$$shots/$${picture##*/}" "$$picture" || exit 1; done

check-generated: ## Check that the generated code is up to date
	@tools/check-generated
