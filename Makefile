# The modules in go.work and their packages.
PACKAGES = ./... ./bench/... ./bench/load ./cmd/... ./examples/... ./simulation/... ./tools/...
MODULES  = . bench bench/load cmd examples simulation tools

# Where the library has to build and vet; it is measured on linux/amd64.
PLATFORMS = linux/arm64 linux/386 darwin/arm64 windows/amd64 wasip1/wasm

SOAK     ?= 10m
FUZZTIME ?= 10s

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build cross test alone race e2e examples soak rules ruleslong storage storagelong sim simulation mutants bench bench-quick bench-scale lint generate fuzz check

help: ## list the targets
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 13

build: ## build every package
	go build -o /dev/null $(PACKAGES)

cross: ## build and vet the library for the other platforms
	@for p in $(PLATFORMS); do echo "$$p"; \
		GOOS=$${p%/*} GOARCH=$${p#*/} GOWORK=off go build -o /dev/null ./...; \
		GOOS=$${p%/*} GOARCH=$${p#*/} GOWORK=off go vet ./...; done

test: ## run the tests
	go test $(PACKAGES)
	go test -tags simulation -run '^TestHandOver' .
	go test -tags simulation ./simulation

alone: ## vet and test the library, and build the programs, without the workspace
	GOWORK=off go vet ./...
	GOWORK=off go test ./...
	cd cmd && GOWORK=off go build -o /dev/null ./...
	cd examples && GOWORK=off go build -o /dev/null ./...

# Without simulation: its tests mostly start processes that are not built for the
# detector, and the stage of its own runs whole clusters under it. Without those that
# read all of the source, one file after the other.
race: ## run the tests under the race detector
	go test -race -skip '^Test(Tidy|Fault121_NoWallClock)$$' $(filter-out ./simulation/...,$(PACKAGES))

e2e: ## kill real processes and look at what they kept
	@cd cmd && tests=$$(go test -list '^TestEndToEnd' ./raftd) && [[ $$tests == Test* ]] || { echo "$$tests: no TestEndToEnd in cmd/raftd"; exit 1; }
	cd cmd && E2E=1 go test -count=1 -run '^TestEndToEnd' -timeout 10m ./raftd

examples: ## run programs as they were written for goraft, and kill them
	@cd examples && tests=$$(go test -list . ./... | grep -c '^Test') && [[ $$tests -ge 5 ]] || { echo "only $$tests tests of the examples"; exit 1; }
	cd examples && E2E=1 go test -count=1 -timeout 5m -p 1 ./...

soak: ## run clusters under faults for SOAK=10m
	@tests=$$(go test -race -list '^TestSoak$$' .) && [[ $$tests == Test* ]] || { echo "$$tests: no TestSoak in the library"; exit 1; }
	SOAK=$(SOAK) go test -race -count=1 -run '^TestSoak$$' -timeout 20m .

# The rules alone, with time: clusters under seeds, every graph, rows of many timeouts.
RULESTESTS = ^Test(RulesClock|RulesClockRepeats|FlappingLink|Fault(008_CutOffForLong|008_BackAfterLong|010_MixedRulesElect|012_.*|014_.*|015_.*|025_.*|123_.*))$$

rules: HOURS ?= 50
rules: ## run clusters of the rules alone for HOURS=50 of their time, and what goes with them
	@tests=$$(go test -list '$(RULESTESTS)' . | grep -c '^Test'); [[ $$tests -ge 11 ]] || { echo "only $$tests tests of the rules alone"; exit 1; }
	RULES=ci RULES_HOURS=$(HOURS) go test -v -count=1 -timeout 6h -run '$(RULESTESTS)' .

ruleslong: HOURS ?= 1000
ruleslong: ## the same for HOURS=1000, every graph for longer
	RULES=long RULES_HOURS=$(HOURS) go test -v -count=1 -timeout 24h -run '$(RULESTESTS)' .

# The program that runs simulations; -h tells all it can do.
SIM = go run ./simulation/sim

sim: SEEDS ?= 1000
sim: HOURS ?= 0
sim: ## run whole clusters under SEEDS=1000 seeds and for HOURS=0; goes on where it ended
	$(SIM) run -seeds $(SEEDS) -hours $(HOURS) -state bin/simulation/native.json

simulation: ## the same as much as CI does, and that what runs in wasm repeats
	go vet -tags simulation . ./internal/... ./simulation/...
	go tool staticcheck -tags simulation . ./internal/... ./simulation/...
	$(SIM) check -seeds 20
	$(SIM) run -seeds 700 -hours 9
	$(SIM) run -first 1001 -seeds 20 -race

# What the storage tests count is worth reading: calls, states, flips, sequences.
STORAGETESTS = ^Test(Fault(017|045|09[0-9]|10[0-9])|LogWriter|CrashAtEveryCall)
COUNTS = sed -nE '/_test\.go:|^(ok|FAIL|panic|---)|--- (FAIL|SKIP)/p'

storage: ## crash, damage, fill and kill what is on disk, as much as CI does
	@tests=$$(go test -list '$(STORAGETESTS)' . ./internal/... | grep -c '^Test'); [[ $$tests -ge 60 ]] || { echo "only $$tests tests of the storage"; exit 1; }
	STORAGE=ci go test -v -count=1 -timeout 20m ./internal/... | $(COUNTS)
	STORAGE=ci go test -v -count=1 -timeout 20m -run '$(STORAGETESTS)' . | $(COUNTS)

storagelong: ## the same for an hour or more
	STORAGE=long go test -v -count=1 -timeout 12h ./internal/... | $(COUNTS)
	STORAGE=long go test -v -count=1 -timeout 4h -run '$(STORAGETESTS)' . | $(COUNTS)

mutants: ## known bugs, put back one at a time: which test notices? N=10 takes ten in rotation
	go -C tools build -o ../bin/mutants ./mutants
	bin/mutants -check
	bin/mutants $(if $(N),-n $(N) -rotate $$(($$(date +%s) / 86400)),-baseline -table mutants/score.md)

bench: ## compare with other libraries and the floor, within an hour; results in bin/bench/full
	go run ./bench -plan full

bench-scale: ## what grows with the log, up to 10 million entries: half an hour, 6 GB in DIR=.
	go run ./bench -plan scale -dir $(or $(DIR),.)

bench-quick: ## compare with the floor only, within two minutes
	go run ./bench -plan quick

lint: cross ## format, vet, staticcheck, go.mod files, known vulnerabilities
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then echo "gofmt -w:" $$files; exit 1; fi
	go vet $(PACKAGES)
	go tool staticcheck $(PACKAGES)
	@for m in $(MODULES); do (cd $$m && GOWORK=off go mod tidy -diff); done
	@.ci/vulnerabilities $(PACKAGES)

generate: ## generate code again (needs protoc: Debian's protobuf-compiler)
	go -C tools build -o ../bin/protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go
	PATH="$(CURDIR)/bin:$$PATH" go generate $(PACKAGES)

fuzz: ## run every fuzz target for FUZZTIME=10s
	@.ci/fuzz $(FUZZTIME)

check: build lint test alone race ## what should pass before a commit is shared
