# Two commands matter: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
CACHE := $(shell $(PYTHON) lab/cache.py)
# One environment for each content of the requirements, outside the checkout.
VENV := $(CACHE)/venv-$(shell cat requirements.txt requirements-dev.txt | sha256sum | cut -c1-12)
BIN := .venv/bin

export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.collections
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: setup
setup: ## virtual environment and collections
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "Python 3.11 or newer is needed (found %d.%d): apt-get install python3 python3-venv, or set PYTHON=" % v[:2])'
	@if [ ! -e $(VENV)/complete ]; then \
	  echo "setup: virtual environment in $(VENV) (about a minute)"; start=$$SECONDS; \
	  $(PYTHON) -m venv --clear $(VENV) || { echo "setup: python3 -m venv failed: apt-get install python3-venv" >&2; exit 1; }; \
	  $(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements-dev.txt; \
	  touch $(VENV)/complete; echo "setup: virtual environment ready, $$((SECONDS - start)) s"; fi
	@ln -sfn $(VENV) .venv
	@mkdir -p .collections/ansible_collections/homelab
	@ln -sfn ../../.. .collections/ansible_collections/homelab/containerd

LAB := python3 lab/lab.py
DEMO = $(CACHE)/run/demo

.PHONY: demo
demo: setup ## a real dockershim cluster in a container, migrated before your eyes
	@$(LAB) up --cluster demo --label demo
	@$(LAB) workloads --cluster demo
	ansible-playbook -i $(DEMO)/inventory.yml homelab.containerd.migrate
	@echo
	@cat $(DEMO)/report/report.txt
	@echo
	@echo "The same as a page, to open in a browser: $(DEMO)/report/report.html"
	@echo "The cluster is up. A kubectl on it: docker exec -it hc-demo-node1 kubectl --kubeconfig /etc/kubernetes/admin.conf get nodes,pods -A -o wide"
	@echo "make demo-clean removes it."

.PHONY: demo-clean
demo-clean: ## remove the demo's containers, volumes and network
	@$(LAB) down --label demo

# A part of the tests: its name and its command. Each says how long it took, so that the hour of
# `make test` can be kept, and is remembered when it passed.
part = @$(PYTHON) tests/parts.py run $(1) $(2)
export ONLY RESUME

.PHONY: lint
lint: setup ## ruff, mypy, yamllint, ansible-lint (production profile)
	$(call part,ruff,ruff check .)
	$(call part,format,ruff format --check .)
	$(call part,mypy,mypy)
	$(call part,yamllint,yamllint --strict .)
	$(call part,ansible-lint,ansible-lint --offline --profile production)

.PHONY: unit
unit: setup ## unit tests: pure functions against recorded output
	$(call part,unit,pytest -q tests/unit)

.PHONY: codes
codes: setup ## write docs/codes.md from plugins/plugin_utils/plan/codes.yml
	@PYTHONPATH=.collections python -m ansible_collections.homelab.containerd.plugins.plugin_utils.plan.codes

.PHONY: browser
browser: setup ## report.html in headless Chromium
	$(if $(filter-out browser,$(ONLY)),,@command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
	  { apt-get update && apt-get install --yes --no-install-recommends chromium chromium-driver; } >/dev/null || \
	  { echo "browser: apt-get install chromium chromium-driver" >&2; exit 1; })
	$(call part,browser,pytest -q tests/browser)

.PHONY: sanity
sanity: setup ## ansible-test sanity
	$(call part,sanity,tests/sanity.sh)

.PHONY: lab
lab: setup ## build what the throwaway cluster is made of (with ONLY, a scenario builds it)
	$(if $(ONLY),,@$(LAB) build)

.PHONY: configs configs-all
configs: setup lab ## the node's containerd reads what the translation writes
	$(call part,configs,pytest -q tests/containerd)

configs-all: setup lab ## so do containerd 1.7 and 2
	$(if $(ONLY),,@$(LAB) build containerd-versions)
	$(call part,configs-all,pytest -q tests/containerd --containerds=all)

.PHONY: power-cut
power-cut: setup ## the power is cut while images are adopted, on ext4, xfs and btrfs
	$(if $(filter-out power-cut,$(ONLY)),,@{ command -v qemu-storage-daemon && command -v mkfs.xfs && command -v mkfs.btrfs; } >/dev/null || \
	  { apt-get update && apt-get install --yes --no-install-recommends qemu-system-common xfsprogs btrfs-progs; } >/dev/null || \
	  { echo "power-cut: apt-get install qemu-system-common xfsprogs btrfs-progs" >&2; exit 1; })
	$(call part,power-cut,pytest -q -s tests/power_cut)

# What of adoption is interrupted takes most of that scenario's time; test-all does it too.
IMAGES_BRIEFLY := "-k 'not killed and not garbage and not meanwhile'"
IMAGES_TESTS = $(IMAGES_BRIEFLY)

.PHONY: molecule
molecule: setup lab ## the scenarios on real nodes
	$(call part,default,molecule test -s default)
	$(call part,rollback,molecule test -s rollback)
	$(call part,images,env PYTEST_ADDOPTS=$(IMAGES_TESTS) molecule test -s images)
	$(call part,assess,molecule test -s assess)

.PHONY: test
test: check-only lint unit browser sanity configs molecule ## everything that fits in an hour

.PHONY: test-all
test-all: IMAGES_TESTS =
test-all: test ## all of it; ONLY=default,crash for some parts, RESUME=1 for those not passed yet
	$(MAKE) --no-print-directory configs-all power-cut
	$(call part,crash,molecule test -s crash)
	$(call part,images-containerd-1.7,env IMAGES_CONTAINERD=1.7.35 PYTEST_ADDOPTS=$(IMAGES_BRIEFLY) molecule test -s images)
	$(call part,images-containerd-2,env IMAGES_CONTAINERD=2.4.2 PYTEST_ADDOPTS=$(IMAGES_BRIEFLY) molecule test -s images)
	$(call part,containerd2,molecule test -s containerd2)
	$(call part,workers,molecule test -s workers)
	$(call part,registries,molecule test -s registries)
	$(call part,buildkit,molecule test -s buildkit)
	$(call part,builds,molecule test -s builds)

# A misspelt part must not be a run that tests nothing.
.PHONY: check-only
check-only:
	$(if $(ONLY),@$(MAKE) --no-print-directory --dry-run test-all ONLY= | $(PYTHON) tests/parts.py check "$(ONLY)")

.PHONY: test-status
test-status: ## which parts of test-all passed for what is checked out
	@$(MAKE) --no-print-directory --dry-run test-all ONLY= | $(PYTHON) tests/parts.py status

.PHONY: bench bench-look bench-rerun bench-switch bench-images
bench: bench-look bench-switch bench-images ## comparisons, each a ratio measured in one run (about 25 minutes)

bench-look: setup lab ## how long a look at a full node takes
	$(PYTHON) bench/look.py

bench-rerun: setup lab ## what a second migrate costs that finds nothing to do (about 10 minutes)
	$(PYTHON) bench/rerun.py

bench-switch: setup lab ## how long a node is away, against the documented way
	$(PYTHON) bench/switch.py

bench-images: setup lab ## how images get to containerd: adopted, streamed, kURL's way, against cat
	$(PYTHON) bench/carry.py

.PHONY: bench-build
bench-build: setup lab ## how long builds take: docker's two builders, ours, buildah (about 40 minutes)
	$(PYTHON) bench/build.py --rounds 2 --svg docs/bench-build.svg

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | column -t -s "$$(printf '\t')"
