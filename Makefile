# What an operator or a developer runs. Everything is installed into .venv; the lab keeps its
# Debian roots in ~/.cache/virt-preflight, so that a second run is quick.

PYTHON ?= python3
BIN := .venv/bin
LAB := $(BIN)/python -m tests.lab
READY := .venv/ready

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench lab-up lab-down lab-score lab-table recordings format generate published constraints wheels debs clean

help:
	@echo 'make demo       show the main job: real libvirt hosts as root, recorded ones otherwise'
	@echo 'make test       run every test; the lab runs where it can and says why where it cannot'
	@echo 'make lint       ruff, mypy --strict, import-linter, buf, spelling, generated files'
	@echo 'make bench      measure, each figure beside its baseline of the same run'
	@echo 'make lab-up     bring up real libvirt hosts in network namespaces (root); lab-down ends them'
	@echo 'make lab-score  every scenario: the dry run at each depth, then the real migration;'
	@echo '                build/lab-score.json, and make lab-table says it again as Markdown'
	@echo 'make recordings record hosts of the lab anew, for tests without root (root)'
	@echo 'make wheels     the distributions to install on hosts, in dist/'
	@echo 'make debs       Debian packages of both for bookworm and trixie, in dist/'
	@echo 'make constraints  pin the newest versions of everything'
	@echo 'make published  what the treaty is held against from now on (after a release)'
	@echo 'make generate   write the generated files anew: protobuf code, agent/CHECKS.md'

$(READY): pyproject.toml proto/pyproject.toml agent/pyproject.toml controller/pyproject.toml constraints.txt deploy/setup.sh
	PYTHON=$(PYTHON) deploy/setup.sh .venv
	@touch $@

demo: $(READY)
	@$(BIN)/python -m tests.demo

test: $(READY)
	$(BIN)/pytest

lint: $(READY)
	$(BIN)/pytest tests/house

bench: $(READY)
	$(BIN)/python -m tests.bench

lab-up: $(READY)
	$(LAB) up

lab-down: $(READY)
	$(LAB) down

recordings: $(READY)
	$(BIN)/python -m tests.lab.recorded

lab-score: $(READY)
	$(LAB) score

lab-table: $(READY)
	@$(LAB) table

format: $(READY)
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format --quiet .

generate: $(READY)
	$(BIN)/python proto/generate.py
	$(BIN)/python -m virt_preflight.agent.checks_page > agent/CHECKS.md

published: $(READY)
	$(BIN)/buf build proto --exclude-source-info --output proto/published.binpb

constraints: $(READY)
	@mkdir -p build
	echo '# Exact versions of everything that is installed here; `make constraints` writes it anew.' > build/constraints.txt
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --no-emit-index-url --generate-hashes \
	  --python-version 3.11 --universal --group dev --no-emit-package virt-preflight \
	  --no-emit-package virt-preflight-agent --no-emit-package virt-preflight-proto \
	  pyproject.toml >> build/constraints.txt
	mv build/constraints.txt constraints.txt

wheels: $(READY)
	rm -rf dist
	for member in proto agent controller; do $(BIN)/uv build --quiet --wheel --out-dir dist $$member; done

debs: $(READY)
	deploy/deb/build.sh

clean:
	rm -rf .venv build dist
