# `make` lists the targets.

SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help

GOLANGCI := go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK := go run golang.org/x/vuln/cmd/govulncheck@v1.9.0
CYCLONEDX := github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

# The tag and the commit, for `paylatch version` and paylatch_build_info. Git refuses a clone of
# another user unless it is configured otherwise, and the go command then fails to record the
# commit itself.
GIT := git -c safe.directory='*'
export VERSION ?= $(shell $(GIT) describe --tags --always --dirty 2> /dev/null || echo unknown)
export COMMIT ?= $(shell $(GIT) rev-parse HEAD 2> /dev/null || echo unknown)
BUILDINFO := github.com/paylatch/paylatch/internal/buildinfo
LDFLAGS := -X $(BUILDINFO).version=$(VERSION) -X $(BUILDINFO).commit=$(COMMIT)
export GOFLAGS := $(strip $(GOFLAGS) -buildvcs=false)
BIN ?= bin/

.PHONY: help
help: ## List the targets.
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the programs into bin/.
	go build -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/...

.PHONY: release
release: ## Build a release into dist/: programs, checksums and SBOMs (needs the network once).
	rm -rf dist
	$(MAKE) binaries
	@# The tool runs here, and takes the platform of the SBOM from its environment.
	for binary in dist/*; do platform=$${binary#dist/*-}; CGO_ENABLED=0 \
		go run -trimpath -exec "env GOOS=$${platform%-*} GOARCH=$${platform#*-}" $(CYCLONEDX) \
		bin -json -std -noserial -notimestamp -version '$(VERSION)' \
		-output $$binary.cdx.json $$binary || exit 1; done
	cd dist && sha256sum * > SHA256SUMS

PLATFORMS ?= linux/amd64 linux/arm64
PROGRAMS ?= paylatch payclient

# The same sources, version, commit and Go give the same bytes, in any directory and on any
# machine. So the environment of the caller has no part in it. test/release checks this.
.PHONY: binaries
binaries: ## Build PROGRAMS for PLATFORMS into dist/: static and reproducible.
	for program in $(PROGRAMS); do for platform in $(PLATFORMS); do \
		GOOS=$${platform%/*} GOARCH=$${platform#*/} GOAMD64=v1 GOARM64=v8.0 CGO_ENABLED=0 \
		GOFLAGS=-buildvcs=false GOEXPERIMENT= GOFIPS140=off GOWORK=off \
		go build -trimpath -ldflags '-s -w $(LDFLAGS)' \
		-o dist/$$program-$${platform/\//-} ./cmd/$$program || exit 1; done; done

.PHONY: run
run: build ## Run everything on this machine until Ctrl-C; make twelve payments and show where they go.
	@bin/paylatch-dev run --simulate 12

.PHONY: test
test: ## Run all tests, with containers if Docker responds, else with embedded dependencies.
	@go run ./test/parts/which
	go test -count=1 -timeout 20m ./...

.PHONY: test-race
test-race: ## The same with the race detector (needs a C compiler; PACKAGES=./...).
	@go run ./test/parts/which
	go test -count=1 -parallel $(PARALLEL) -race -timeout 30m $(PACKAGES)

PACKAGES ?= ./...
# How many tests of a package run at once under the race detector: two per processor, since most of
# them wait for time-outs.
PARALLEL ?= $(shell echo $$((2 * $$(nproc 2> /dev/null || echo 2))))

.PHONY: test-hostile
test-hostile: ## Run the integration tests on databases with harmful settings (RACE=-race).
	PAYLATCH_TEST_HOSTILE=1 go test -count=1 -parallel $(PARALLEL) $(RACE) -timeout 30m ./test/integration

FUZZTIME ?= 20s
.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (20s).
	@for package in internal/payment internal/kafka; do \
		for target in $$(grep -rhoE '^func Fuzz[A-Za-z]+' $$package | cut -c6-); do \
		go test ./$$package -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x \
			|| exit 1; done; done

.PHONY: up
up: ## Start docker-compose.yml with REPLICAS (2) replicas.
	docker compose up --build --detach --wait --scale paylatch=$(REPLICAS)

REPLICAS ?= 2
.PHONY: down
down: ## Stop it and delete its data.
	docker compose down --volumes

.PHONY: secure
secure: ## Start docker-compose.secure.yml: TLS, SASL and ACLs, with new certificates in .secure.
	go run ./test/secure/up

.PHONY: secure-test
secure-test: ## The same, make payments, verify over each listener, and remove everything (needs Docker).
	go run ./test/secure/up -check

.PHONY: secure-down
secure-down: ## Stop it and delete its data and its secrets.
	docker compose -f docker-compose.secure.yml down --volumes
	rm -rf .secure

.PHONY: simulate
simulate: ## Make twelve payments through it and show where they go.
	docker compose run --rm -T client simulate -n 12

.PHONY: scale-test
scale-test: BROKERS ?= 3
scale-test: ## Scale, kill and update under load, then audit (STEP=15s, BROKERS=3 or 1; needs Docker, kcat).
	go run ./test/scale --step $(STEP) --brokers $(BROKERS)

STEP ?= 15s
.PHONY: chaos
chaos: BROKERS ?= 1
chaos: ## Inject random faults under load (MINUTES=5, SEED=1, BROKERS=1; needs Docker, kcat).
	go run ./test/chaos --minutes $(MINUTES) --seed $(SEED) --brokers $(BROKERS)

MINUTES ?= 5
SEED ?= 1
.PHONY: failover-test
failover-test: ## Fail PostgreSQL over under load (FAILOVERS=5, AWAY=30s; needs Docker, kcat).
	go run ./test/failover --failovers $(FAILOVERS) --away $(AWAY)

FAILOVERS ?= 5
AWAY ?= 30s
.PHONY: bench
bench: ## Measure costs next to baselines, half an hour (RECORD=1, LINES=key,key, PROFILE=dir, OUTAGE=1m).
	cd test/bench && go run . $(if $(RECORD),--record) $(if $(OUTAGE),--outage $(OUTAGE)) \
		$(if $(LINES),--lines $(LINES)) $(if $(PROFILE),--profile $(abspath $(PROFILE)))

.PHONY: bench-test
bench-test: ## Test the bench, with the controls of its gate.
	cd test/bench && go test -count=1 ./...

.PHONY: bench-short
bench-short: bench-test ## Run the gate: fails if a line is over 25 % worse than recorded (LINES=key,key).
	cd test/bench && go run . --gate $(if $(LINES),--lines $(LINES))

.PHONY: matrix
matrix: ## Inject each fault at each point of the protocol, with containers if Docker responds.
	go test -count=1 -v -run 'TestMatrix' ./test/matrix | grep -v '^=== \|level='

.PHONY: model
model: ## Check the protocol exhaustively, and that each guard is needed (needs spin and gcc).
	test/model/run.sh

.PHONY: lint
lint: ## Run golangci-lint with the rules of .golangci.yml.
	$(GOLANGCI) run ./...
	cd test/bench && $(GOLANGCI) run ./...

.PHONY: schema
schema: ## Write migrations/schema.sql from the migrations.
	go test ./migrations -run TestSchema_FileIsCurrent -update

.PHONY: docs
docs: ## Write docs/configuration.md and docs/metrics.md, and check all documents.
	go test -count=1 ./test/docs -run 'TestConfiguration|TestStack' -update
	go test -count=1 ./test/docs

.PHONY: verify
verify: ## Check that generated files are current: go.mod, schema.sql, documents, formatting.
	go mod tidy -diff
	go mod verify
	cd test/bench && go mod tidy -diff && go mod verify
	go test -count=1 ./migrations -run TestSchema_FileIsCurrent
	go test -count=1 ./test/docs
	@test -z "$$(gofmt -l .)" || { echo "not formatted:"; gofmt -l .; exit 1; }

.PHONY: vuln
vuln: ## Check the dependencies for known vulnerabilities (needs the network, or VULN_DB).
	go run ./test/vuln $(GOVULNCHECK)

.PHONY: clean
clean: ## Remove what make created, and the data of `make run`.
	@# As root the data are elsewhere, behind a link.
	@if [ -L .paylatch/postgres ]; then rm -rf "$$(dirname "$$(readlink .paylatch/postgres)")"; fi
	rm -rf bin dist .paylatch .cache
