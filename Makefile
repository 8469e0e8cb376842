# Two commands matter: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CACHE := $(or $(HOMELAB_CONTAINERD_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/homelab-containerd)
PYTHON ?= python3
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

.PHONY: lint
lint: setup ## ruff, mypy, yamllint, ansible-lint (production profile)
	ruff check . && ruff format --check .
	mypy

.PHONY: test
test: lint ## everything that fits in an hour
