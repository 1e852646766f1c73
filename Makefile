# SPDX-License-Identifier: Apache-2.0

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

# sudo has a PATH of its own, where Go usually is not.
export PATH := $(PATH):/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin
export CGO_ENABLED := 0

# Programs are every cmd/slipway*. Those named below go into slipway itself.
PROGRAMS := $(sort $(patsubst cmd/%/,%,$(wildcard cmd/slipway*/)))
HELPERS := pause slipway-cni containerd-shim-runc-v2

# `make build GOARCH=arm64` builds for another architecture, in directories of its
# own. Everything else is for this machine.
MACHINE := $(patsubst aarch64,arm64,$(patsubst x86_64,amd64,$(shell uname -m)))
GOARCH ?= $(MACHINE)
FOREIGN := $(filter-out $(MACHINE),$(GOARCH))
BIN := bin$(FOREIGN:%=/%)
WORK := .build$(FOREIGN:%=/%)
PAYLOAD := internal/payload/files/$(GOARCH)
GCC_amd64 := x86_64-linux-gnu-gcc
GCC_arm64 := aarch64-linux-gnu-gcc
GCC := $(if $(FOREIGN),$(GCC_$(GOARCH)),gcc)
PAUSE_FLAGS := -Os -static -nostdlib -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables -Wl,--build-id=none -s

# git refuses a clone that belongs to another user, as under sudo.
GIT := git -c safe.directory='$(CURDIR)'
VERSION := $(shell $(GIT) describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT := $(shell $(GIT) rev-parse HEAD 2>/dev/null || echo unknown)
DATE := $(shell TZ=UTC $(GIT) log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ 2>/dev/null || echo 1970-01-01T00:00:00Z)
KUBERNETES := $(shell sed -n 's/^const Kubernetes = "\(.*\)"/\1/p' internal/version/version.go)
CONTAINERD := $(shell awk '$$1 == "github.com/containerd/containerd/v2" { print $$2 }' go.mod)

stamp_containerd = -X github.com/containerd/containerd/v2/version.Version=$(CONTAINERD)
stamp_kubernetes = $(foreach package,k8s.io/component-base/version k8s.io/client-go/pkg/version, \
	-X $(package).gitVersion=$(KUBERNETES) \
	-X $(package).gitMajor=$(word 1,$(subst ., ,$(KUBERNETES:v%=%))) \
	-X $(package).gitMinor=$(word 2,$(subst ., ,$(KUBERNETES:v%=%))) \
	-X $(package).gitCommit=$(COMMIT) \
	-X $(package).gitTreeState=$(if $(findstring dirty,$(VERSION)),dirty,clean) \
	-X $(package).buildDate=$(DATE))
LDFLAGS = -s -w -X slipway.dev/slipway/internal/version.Version=$(VERSION) $(stamp_kubernetes) $(stamp_containerd)

# go build links again only what changed. Version stamping is done above.
GO_BUILD = GOARCH=$(GOARCH) go build -buildvcs=false

need_root = @[ "$$(id -u)" = 0 ] || { echo "make $@ needs root: run it as root, for example \`sudo make $@\`" >&2; exit 1; }
need_slipway = @[ -x bin/slipway ] || { echo "make $@: there is no bin/slipway, run \`make build\` first" >&2; exit 1; }

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { sub("%", "NAME", $$1); printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Under sudo the files still belong to the user.
give_back = @[ -z "$${SUDO_UID-}" ] || for each in bin .build internal/payload/files; do \
	[ ! -e $$each ] || chown -R "$$SUDO_UID:$$SUDO_GID" $$each; done

.PHONY: setup
setup: ## Install the Debian packages that building, tests and checks need
	@GOARCH=$(GOARCH) deploy/setup dev

.PHONY: build
build: payload ## Build everything into bin/; with GOARCH=arm64 into bin/arm64/
	@$(GO_BUILD) -ldflags '$(strip $(LDFLAGS))' -o $(BIN)/ $(PROGRAMS:%=./cmd/%)
	$(give_back)
	@echo "built $(PROGRAMS:%=$(BIN)/%), version $(VERSION)"

# The helper programs, compressed, where internal/payload embeds them. A file
# is left alone when its content is the same, so that slipway is not linked
# again for nothing.
.PHONY: payload
payload:
	@[ -d '$(PAYLOAD)' ] || { echo "make: GOARCH=$(GOARCH): expected amd64 or arm64" >&2; exit 1; }
	@mkdir -p $(WORK)
	@[ $(WORK)/pause -nt cmd/pause/pause.c ] || command -v $(GCC) >/dev/null || \
		{ echo "make: there is no $(GCC), run \`make setup$(FOREIGN:%= GOARCH=%)\` as root" >&2; exit 1; }
	@[ $(WORK)/pause -nt cmd/pause/pause.c ] || $(GCC) $(PAUSE_FLAGS) -Wall -Wextra -Werror -o $(WORK)/pause cmd/pause/pause.c
	@$(GO_BUILD) -ldflags '-s -w -X slipway.dev/slipway/internal/version.Version=$(VERSION)' -o $(WORK)/ ./cmd/slipway-cni
	@$(GO_BUILD) -ldflags '-s -w $(stamp_containerd)' -o $(WORK)/ github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2
	@for helper in $(HELPERS); do \
		if ! gzip -dc $(PAYLOAD)/$$helper.gz 2>/dev/null | cmp -s - $(WORK)/$$helper; then \
			gzip -9nc $(WORK)/$$helper >$(WORK)/$$helper.gz; \
			mv $(WORK)/$$helper.gz $(PAYLOAD)/; \
		fi; \
	done

.PHONY: generate
generate: ## Compile the BPF programs and generate their Go loaders
	@go generate ./bpf/...

.PHONY: up
up: ## Bring up a cluster on this machine, from a fresh clone (root)
	$(need_root)
	@deploy/setup run
	@$(MAKE) --no-print-directory build
	@bin/slipway up --detach

.PHONY: down
down: ## Stop the cluster and leave the machine as it was; data stay (root)
	$(need_root)
	$(need_slipway)
	@bin/slipway down

.PHONY: demo
demo: ## Run the demo on the cluster: web application, Ingress, volume (root)
	$(need_root)
	$(need_slipway)
	@deploy/demo/run

# What tests need besides what they test. Without root it only says what is missing,
# and leaves out what only tests of root use.
ROOT := $(filter 0,$(shell id -u))

.PHONY: test-needs
test-needs:
	@deploy/setup dev || [ "$$(id -u)" != 0 ]

report = go run -buildvcs=false ./test/report $(if $(filter true,$(CI)),-require-root)

.PHONY: test
test: test-needs build $(if $(ROOT),kube-proxy) ## Run all tests; those that need root are skipped without it
	@[ "$$(id -u)" = 0 ] || echo "not root: tests that need root are skipped"
	@$(report)

.PHONY: test-unit
test-unit: ## Run the tests that do not need root
	@go run -buildvcs=false ./test/report -kind=unit

.PHONY: test-root
test-root: test-needs build $(if $(ROOT),kube-proxy) ## Run the tests that need root, and those on a whole cluster
	$(need_root)
	@$(report) -kind=root

# The end-to-end tests are not among them: twenty runs of those take hours.
COUNT ?= 20
PKG ?= $(shell grep -rl --include='*_test.go' '^func TestRoot' . | xargs -n1 dirname | sort -u | grep -v '^./test/e2e')

.PHONY: test-flaky
test-flaky: test-needs build kube-proxy ## Run root tests COUNT times (20) beside load, those of PKG (all packages but test/e2e)
	$(need_root)
	@go run -buildvcs=false ./test/report -kind=root -times=$(COUNT) -hog $(PKG)

# KERNELS and PART choose, see test/kernels. The page has every result that is
# kept, also of earlier runs.
kernels_flags = $(if $(KERNELS),-kernel '$(KERNELS)') $(if $(PART),-part '$(PART)')

.PHONY: kernels
kernels: ## Try Debian's stock kernels in QEMU, write docs/kernels.md; KERNELS= and PART= choose (root)
	$(need_root)
	@deploy/setup kernels
	@$(MAKE) --no-print-directory build
	@go run -buildvcs=false ./test/kernels -page docs/kernels.md $(kernels_flags)

.PHONY: kernels-short
kernels-short: ## Try one of these kernels, with modules: a cluster, a pod, a Service (root)
	$(need_root)
	@deploy/setup kernels
	@$(MAKE) --no-print-directory build
	@go run -buildvcs=false ./test/kernels -kernel 6.12 -part short

.PHONY: conformance
conformance: build ## Run upstream's conformance tests, or those that FOCUS names (root)
	$(need_root)
	@test/conformance/run

.PHONY: lint
lint: ## Check format, vet, staticcheck, and that generated files are current
	@test/lint

# The programs that benchmarks compare with. Only a new version of theirs links
# them again.
PEERS := $(WORK)/peers
peer_stamp = $(foreach package,k8s.io/component-base/version k8s.io/client-go/pkg/version, \
	-X $(package).gitVersion=$(KUBERNETES) \
	-X $(package).gitMajor=$(word 1,$(subst ., ,$(KUBERNETES:v%=%))) \
	-X $(package).gitMinor=$(word 2,$(subst ., ,$(KUBERNETES:v%=%))))
build_peers = cd bench/peers && $(GO_BUILD) -ldflags '-s -w $(strip $(peer_stamp))' -o '$(CURDIR)/$(PEERS)

.PHONY: kube-proxy
kube-proxy: ## Build kube-proxy, for bench-proxy and the tests that go from it to ours and back
	@mkdir -p $(PEERS)
	@$(build_peers)/' k8s.io/kubernetes/cmd/kube-proxy
	$(give_back)

.PHONY: peers
peers: kube-proxy
	@$(build_peers)/etcd' go.etcd.io/etcd/server/v3
	@$(build_peers)/' $(addprefix k8s.io/kubernetes/cmd/,kube-apiserver kube-controller-manager kube-scheduler kubelet) \
		$(addprefix github.com/containernetworking/plugins/plugins/,main/bridge main/loopback ipam/host-local)

bench-cluster: peers

bench-proxy: kube-proxy

bench-%: build ## Run the benchmark NAME against its peers (root)
	$(need_root)
	@[ -d bench/$* ] || { echo "make $@: there is no bench/$*" >&2; exit 1; }
	@mkdir -p bench/out
	@go run -buildvcs=false ./bench/$* -out bench/out/$*.json $(BENCH_FLAGS)

.PHONY: docs-bench
docs-bench: ## Write docs/bench from the results of benchmarks
	@go run -buildvcs=false ./bench/page

.PHONY: clean
clean: ## Remove what was built; Go's cache stays
	@rm -rf bin .build bench/out internal/payload/files/*/*.gz
