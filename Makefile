# make demo    re-score the bundled sample on this machine, and show what changed
# make test    every check that CI runs
# make coverage  the same, with line coverage of all processes; takes 50% longer
# make bench   compare rerankq with other rerankers on this machine, into benchmarks/results
# make bench-gpu  compare the engine with CrossEncoder.predict on this machine's GPU; eight minutes
# make soak    the slow fault tests, a thousand jobs with a fault every two seconds, and twenty failovers
# make up      Redis, a worker and Flower in the foreground
# make search  a search application with Milvus and a page, on http://127.0.0.1:8000
# make docs    build the documentation site in site/
# make format  format the code
# make clean   remove everything that make created

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PIP    := PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/pip install --quiet

.PHONY: demo test coverage soak bench bench-gpu up search docs lint format clean
.DEFAULT_GOAL := test

# Check the version first, because an old Python would fail later with a less helpful message.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "rerankq requires Python 3.11 or newer; run make with PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[worker,monitor,http,embedded]'
	touch $@

# The tests also need every library that has an adapter, Milvus, and the reader of rank_llm. It is
# apart from the others, because rank_llm requires gigabytes of packages that its reader does not use.
$(READY)-dev: $(READY)
	$(PIP) --editable '.[llm,langchain,llama-index,haystack,pyterrier,search,docs,dev]'
	$(PIP) --no-deps --upgrade --target $(VENV)/peers rank-llm
	touch $@

# The other rerankers are large, so they are installed only for benchmarks.
$(READY)-bench: $(READY)
	$(PIP) --editable '.[bench]'
	touch $@

# Milvus and the embedding model are large, so they are installed only for the example and for tests.
$(READY)-search: $(READY)
	$(PIP) --editable '.[search]'
	touch $@

demo: $(READY)
	$(BIN)/rerankq demo

bench: $(READY)-bench
	$(BIN)/python -m benchmarks.bench

bench-gpu: $(READY)
	$(BIN)/python -m benchmarks.gpu

up: $(READY)
	$(BIN)/rerankq up --model bundled

search: $(READY)-search
	$(BIN)/python -m examples.search

lint: $(READY)-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/python -m tests.prose

# --strict makes broken links, unknown anchors and pages missing from the menu errors. It needs the
# warnings that --quiet would hide.
docs: $(READY)-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

test: $(READY)-dev
	@$(BIN)/python -m tests.run

coverage: $(READY)-dev
	@$(BIN)/python -m tests.run --coverage

soak: $(READY)-dev
	$(BIN)/pytest -m slow
	$(BIN)/python -m tests.soak.soak
	$(BIN)/python -m tests.soak.failovers

format: $(READY)-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache dist site
	find . -name __pycache__ -prune -exec rm -rf {} +
