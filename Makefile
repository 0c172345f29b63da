# Every target creates the environment when it is missing and skips that when nothing changed.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PAPER  ?=
TIER   ?= cpu
ENGINE ?= local
BUDGET ?= 60m

# A paper may need extras of pyproject.toml: `extra: name`, `extra: [a, b]` or a list below it.
hash := \#
extras := $(if $(PAPER),$(shell cut -d'$(hash)' -f1 experiments/$(PAPER)/spec.yaml 2>/dev/null | \
  awk '/^[^ -]/ {on = /^extra:/} on {sub(/^extra:/, ""); sub(/^ *- /, ""); gsub(/[][,"~\047]/, " "); print}'))
stamp = $(VENV)/.installed$(if $(1),-$(1))
needed = $(call stamp,) $(foreach name,$(extras),$(call stamp,$(name)))
install = $(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.$(if $(1),[$(1)])'

$(call stamp,): pyproject.toml constraints.txt
	@test -x $(BIN)/python || { echo "Creating $(VENV) …"; $(PYTHON) -m venv $(VENV); }
	@echo "Installing the harness (once; torch is large) …"
	@$(call install,)
	@touch $@

$(VENV)/.installed-%: $(call stamp,)
	@echo "Installing extra: $* …"
	@$(call install,$*)
	@touch $@

.PHONY: help setup reproduce test portability lint validate list status leaderboard nightly verify chaos faults benchmark audit

help: ## Show this help
	@echo "make reproduce PAPER=tslstm [TIER=smoke|cpu|full] [JOBS=n] [SEEDS=n|m:n|auto] [ENGINE=local|ray]"
	@echo "               [CLAIM=id] [FORCE=1] [TIMEOUT=factor] [THREADS=n] [BUDGET=30m]"
	@echo "               [WANDB_MODE=online] [HARNESS_DATA=folder]"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

setup: $(call stamp,) ## Create the environment (the other targets do it by themselves)

reproduce: $(needed) $(if $(filter ray,$(ENGINE)),$(call stamp,cluster)) ## Reproduce one paper and print its table
	@test -n "$(PAPER)" || { echo "Which paper? make reproduce PAPER=tslstm; make list shows them" >&2; exit 2; }
	@$(BIN)/harness run "$(PAPER)" --tier "$(TIER)" --engine "$(ENGINE)" \
	  $(if $(JOBS),--jobs $(JOBS)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(filter-out file,$(firstword $(origin BUDGET))),--budget $(BUDGET)) $(if $(TIMEOUT),--timeout $(TIMEOUT)) \
	  $(if $(CLAIM),--claim "$(CLAIM)") $(if $(THREADS),--threads $(THREADS)) $(if $(FORCE),--force)

test: $(call stamp,dev) ## Run the tests
	@$(BIN)/python -m pytest $(TESTS)

portability: $(call stamp,dev) ## Run the numeric tests as slower and other processors would compute them
	@$(BIN)/python -m scripts.portability

lint: $(call stamp,dev) ## Check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

validate: $(call stamp,dev) ## Check every paper's spec
	@$(BIN)/harness validate

list: $(call stamp,) ## List the papers
	@$(BIN)/harness list

status: $(call stamp,) ## Say which trials are fresh, stale, failed or missing
	@$(BIN)/harness status --tier "$(TIER)"

leaderboard: $(call stamp,site) ## Write the leaderboard: Markdown in results/, the site in results/site/
	@$(BIN)/harness leaderboard --site

nightly: $(if $(PAPER),$(needed),$(call stamp,dev)) ## Reproduce what is stale or oldest, within BUDGET (default 60m)
	@$(BIN)/harness nightly $(PAPER) --budget "$(BUDGET)" $(if $(SITE),--site)

verify: $(needed) ## Run recorded trials of PAPER at TIER again and compare
	@$(BIN)/harness verify "$(PAPER)" --tier "$(TIER)"

chaos: $(call stamp,dev) ## Interrupt runs at random moments, compare, and write docs/robustness.md
	@$(BIN)/python scripts/chaos.py $(or $(PAPER),tslstm exact_permutations pointer_networks) --tier smoke

faults: $(call stamp,dev) ## Plant faults in a copy of the code, see which tests notice (PAPER="tslstm engine"), and write docs/robustness.md
	@$(BIN)/python -m scripts.faults $(PAPER) $(if $(JOBS),--jobs $(JOBS))

benchmark: $(call stamp,dev) ## Measure what the harness costs (PARTS="start sweep …"), and write results/benchmark.md
	@$(BIN)/python -m scripts.benchmark $(PARTS)

audit: $(call stamp,audit) ## List licences, and look for known vulnerabilities (needs the network)
	@$(BIN)/python scripts/licences.py
	@$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --progress-spinner off
