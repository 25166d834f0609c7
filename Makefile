# Everything one does with this project. Needs python3 (3.11 or newer) and make; each target sets up .venv by itself and reuses it.

PYTHON ?= python3
BIN := .venv/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 $(BIN)/python -m pip install --quiet

# The stamp holds the folder it was made in: an editable install in a tree that was moved or copied would import the old one.
HERE := $(CURDIR)
ifneq ($(shell cat .venv/.stamp 2>/dev/null),$(HERE))
MOVED := moved
endif

.DEFAULT_GOAL := help
.PHONY: help demo demo-jaeger test test-random check bench bench-agentdojo backends docs wheel clean lint types moved foreign lowest
.NOTPARALLEL:

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile

demo: .venv/.stamp ## run the support agent: allowed, denied, approved and retried calls, then its trace
	@$(BIN)/python examples/support_agent/demo.py $(ARGS)

demo-jaeger: .venv/.stamp ## run the demo into a Jaeger and leave it open until Ctrl-C
	@collector-config/demo-jaeger.sh $(BIN)/python $(ARGS)

test: .venv/.stamp-dev ## run the tests (one folder: make test ARGS=tests/policy)
	@echo "pytest: running the tests"
	@$(BIN)/python -m pytest $(ARGS)

# The rooms that touch other libraries. The warning is of the oldest uvicorn about the oldest websockets.
LOWEST_TOOLS := celery check-jsonschema gunicorn httpx hypothesis pytest pytest-timeout pyuwsgi trio
LOWEST := tests/telemetry tests/telemetry_projector tests/usage tests/settings tests/storage tests/web tests/hooks

lowest: .venv-lowest/.stamp ## test with the oldest versions of other libraries that pyproject.toml allows (other tests: make lowest ARGS=tests/wrap)
	@echo "pytest: with the versions of .ci/lowest.txt"
	@PATH="$(HERE)/.venv-lowest/bin:$$PATH" .venv-lowest/bin/python -m pytest -p no:cacheprovider -W 'ignore:remove second argument of ws_handler:DeprecationWarning' \
		$(or $(ARGS),$(LOWEST))

test-random: .venv/.stamp-dev ## compare the policy engine with the reference on 100,000 random pairs (another seed: make test-random SEED=7)
	@OTEL_RUNTIME_RANDOM_PAIRS=100000 OTEL_RUNTIME_RANDOM_SEED=$(or $(SEED),11) $(BIN)/python -m pytest -s --show-capture=no --durations=5 tests/policy/test_random.py

check: lint types docs test wheel ## do what CI does: lint, layers, types, tests, documents, and the wheel without the source

bench: .venv/.stamp ## measure against a raw SDK span and print the ratios (quickly: make bench ARGS=--short)
	@$(BIN)/python -m benchmarks $(ARGS)

bench-agentdojo: .venv-agentdojo/.stamp ## replay the attacks of AgentDojo under the shipped packs and print the table (about 3 minutes)
	@.venv-agentdojo/bin/python -m benchmarks.agentdojo $(ARGS)

backends: ## build Jaeger, the Collector, OPA and, where it can be had, Tempo; unpack Prometheus (needs Go >= 1.26; once)
	@collector-config/build-backends.sh jaeger collector scale-out prometheus opa tempo

foreign: ## install the real Dreadnode and a3s packages for the tests that run them (once; 1.3 GB, outside the checkout)
	@tests/integrations/foreign-env.sh $(PYTHON)

lint: .venv/.stamp-dev ## check rules, format and layers
	@echo "ruff: rules and format"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "import-linter: the layers of ARCHITECTURE.md"
	@$(BIN)/lint-imports

types: .venv/.stamp-dev ## check types: mypy strict over all code, pyright over everything public
	@echo "mypy: strict, over the package, tests, benchmarks and examples"
	@$(BIN)/mypy
	@echo "pyright: every public type is complete"
	@# It looks for the package where the first python on PATH has it.
	@PATH="$(HERE)/$(BIN):$$PATH" $(BIN)/pyright --verifytypes otel_runtime --ignoreexternal

docs: .venv/.stamp-dev ## build the site with the reference into build/docs/index.html
	@echo "sphinx: the site; every warning is an error"
	@$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs

wheel: .venv/.stamp-dev ## build sdist and wheel, and test the wheel where the source is out of sight
	@$(BIN)/python .ci/wheel.py

clean: ## remove .venv and everything that was built
	rm -rf .venv .venv-agentdojo .venv-lowest .demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the environment ------------------------------------------------------------------------------------------------------------------

.venv/.stamp: pyproject.toml $(MOVED)
	@echo "Setting up .venv (about a minute the first time)"
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("expected Python 3.11 or newer, got " + sys.version.split()[0] + "; install one, or name it: make PYTHON=/path/to/python3.12")'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "The venv module of Python is missing; install it (Debian, Ubuntu: apt install python3-venv), then run make again"; exit 1; }
	@if test -s $@ && test "$$(cat $@)" != '$(HERE)'; then echo "This folder was moved or copied: making .venv anew"; rm -rf .venv; fi
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@$(PIP) --editable '.[openai,web]' || { echo "pip could not install the dependencies; the lines above say why (is there a network?)"; exit 1; }
	@printf '%s' '$(HERE)' > $@

# AgentDojo brings eighty packages along, so it has an environment of its own. It runs our code from this folder.
.venv-agentdojo/.stamp: pyproject.toml
	@echo "Setting up .venv-agentdojo (a minute or two the first time)"
	@$(PYTHON) -m venv --clear .venv-agentdojo
	@PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 .venv-agentdojo/bin/python -m pip install --quiet 'agentdojo==0.1.35' . \
		|| { echo "pip could not install agentdojo; the lines above say why (is there a network?)"; exit 1; }
	@touch $@

# Editable, so its stamp holds the folder as well.
.venv-lowest/.stamp: pyproject.toml .ci/lowest.txt $(if $(filter-out $(HERE),$(shell cat .venv-lowest/.stamp 2>/dev/null)),moved)
	@echo "Setting up .venv-lowest (about a minute the first time)"
	@$(PYTHON) -m venv --clear .venv-lowest
	@PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 .venv-lowest/bin/python -m pip install --quiet \
		--editable '.[cedar,openai,postgres,reload,sql,web]' --constraint .ci/lowest.txt $(LOWEST_TOOLS) \
		|| { echo "pip could not install the oldest versions; the lines above say why (is there a network?)"; exit 1; }
	@printf '%s' '$(HERE)' > $@

.venv/.stamp-dev: .venv/.stamp
	@echo "Installing the checkers and test tools"
	@$(PIP) --editable '.[dev]' || { echo "pip could not install the tools; the lines above say why (is there a network?)"; exit 1; }
	@touch $@
