# make run and make test need Go, make and git, and nothing else.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

export CGO_ENABLED ?= 0
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS   := -s -w -X github.com/sop-host/sop/host/internal/cli.linkedVersion=$(VERSION)
# Plugins whose libraries are not the host's affair are modules of their own.
MODULES   := $(dir $(wildcard plugins/*/go.mod))
PLUGINS   := $(notdir $(patsubst %/,%,$(filter-out plugins/internal/ $(MODULES),$(wildcard plugins/*/))))
# Of some two hundred grammars, the detectors need one.
PLUGIN_TAGS := grammar_subset,grammar_subset_python
TOOLS     := $(CURDIR)/.tools
CONFIG    ?= config.hcl
WORKSPACE ?=

# The race detector needs a C compiler; without one the tests run without it and say so.
HAVE_CC   := $(shell command -v $${CC:-gcc} 2>/dev/null || command -v cc 2>/dev/null)
GOTEST    ?= go test
TEST       = $(if $(HAVE_CC),CGO_ENABLED=1 $(GOTEST) -race,$(GOTEST))
TESTFLAGS ?=

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: core ## Build the host (bin/sop, bin/sop-host), its launcher (bin/sop-sandbox), the bundled plugins (bin/plugins/) and the example stack (bin/stack/)
	@for m in $(MODULES); do (cd $$m && go build -trimpath -ldflags '-s -w' -o ../../bin/plugins/ .) || exit 1; done

# All but the modules with libraries of their own, which take longer than all else.
.PHONY: core
core:
	@mkdir -p bin/plugins bin/stack
	@go build -trimpath -ldflags '$(LDFLAGS)' -o bin/sop-host ./host/cmd/sop
	@go build -trimpath -tags front -ldflags '-s -w' -o bin/sop ./host/cmd/sop
	@go build -trimpath -ldflags '-s -w' -o bin/sop-sandbox ./host/cmd/sop-sandbox
	@go build -trimpath -tags $(PLUGIN_TAGS) -ldflags '$(LDFLAGS)' -o bin/plugins/ $(addprefix ./plugins/,$(PLUGINS))
	@cd examples/stack && go build -trimpath -ldflags '-s -w' -o ../../bin/stack/ ./...
	@[ -d bin/example ] || $(MAKE) -s bin/example

# A copy of the example workspace that is SOP's to change, in a repository of its own.
bin/example:
	@rm -rf $@.new && cp -r examples/workspace $@.new
	@cd $@.new && git init -q -b main && git add -A && git -c user.name=SOP -c user.email=sop@localhost commit -qm 'The example as it was'
	@mv $@.new $@

.PHONY: run
run: core ## Build, lock the bundled plugins and run the host (WORKSPACE=/some/repo governs another tree)
	@bin/sop plugin lock --config $(CONFIG) --quiet
	@$(if $(WORKSPACE),SOP_WORKSPACE='$(abspath $(WORKSPACE))') exec bin/sop up --config $(CONFIG)

.PHONY: test
test: build ## Run the tests with the race detector
	$(if $(HAVE_CC),,@echo '*** no C compiler: the tests run without the race detector ***')
	$(TEST) -timeout 30m $(TESTFLAGS) ./...
	@# Without the race detector, and built as above: their libraries a second time take minutes. test-long does that.
	for m in $(MODULES); do (cd $$m && $(GOTEST) -trimpath -timeout 30m $(TESTFLAGS) ./...) || exit 1; done

.PHONY: test-long
test-long: build ## Run the long tests too: whole corpora, thousands of random cases, real load
	SOP_TEST_LONG=1 $(TEST) -timeout 60m $(TESTFLAGS) ./...
	for m in $(MODULES); do (cd $$m && SOP_TEST_LONG=1 $(TEST) -timeout 60m $(TESTFLAGS) ./...) || exit 1; done

.PHONY: test-e2e
test-e2e: build ## Run the end-to-end tests only: the built binaries, as a user would drive them
	go test -timeout 30m -count=1 $(TESTFLAGS) ./test/e2e

.PHONY: bench
bench: build ## Measure, as ratios to a floor taken in the same run
	SOP_BENCH=1 go test -run '^TestBench' -count=1 -v -timeout 30m ./host/internal/bench
	for m in $(MODULES); do (cd $$m && SOP_BENCH=1 go test -trimpath -run '^TestBench' -count=1 -v -timeout 30m ./...) || exit 1; done

.PHONY: generate
generate: tools ## Generate code and docs/openapi.json from proto/
	cd proto && for t in buf.gen.*.yaml; do PATH="$(TOOLS):$$PATH" buf generate --template $$t || exit 1; done

.PHONY: release-contract
release-contract: tools ## At a release: keep its contract (proto/released.binpb), which verify compares later ones with
	cd proto && $(TOOLS)/buf build --exclude-source-info -o released.binpb

.PHONY: format
format: tools ## Format Go and proto files
	$(TOOLS)/gofumpt -w $$(git ls-files '*.go' | grep -v '\.pb\.go$$\|\.connect\.go$$')
	cd proto && PATH="$(TOOLS):$$PATH" buf format -w

.PHONY: verify
verify: tools build ## Lint, check generated code, formatting and known vulnerabilities
	./verify.sh

.PHONY: tools
tools: $(TOOLS)/.stamp ## Build the pinned development tools into .tools/

$(TOOLS)/.stamp: tools/go.mod tools/go.sum $(wildcard tools/*/*.go)
	cd tools && GOBIN=$(TOOLS) go install tool
	@touch $@

.PHONY: clean
clean: ## Remove what was built (not .sop/, the host's state)
	rm -rf bin .tools
