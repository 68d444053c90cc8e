# `make demo` and `make test` do all the set-up by themselves: they need Python 3.11+ with pip.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
LSHASH3 := .venv-lshash3

# With uv, since pip takes minutes longer. It does not read pip's settings: what the environment
# says of a mirror and of certificates is handed on.
UV = $(if $(PIP_CERT),SSL_CERT_FILE=$(PIP_CERT)) $(if $(PIP_INDEX_URL),UV_DEFAULT_INDEX=$(PIP_INDEX_URL)) $(BIN)/uv
INSTALL = $(UV) pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt
# Tests of a file share a process, and files come in the order in which pytest finds them. Those that
# start servers wait half of the time: of them three files run at once.
PYTEST = $(BIN)/python -m pytest --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo check test test-fast test-rest test-long test-containers test-kubernetes test-machines lint docs lock audit format models bench-ingest bench-memory \
	bench-network bench-scaling bench-decoding bench-pixels bench-transfer bench-index bench-filter bench-offload bench-serve bench-workers bench-duplicates bench-gallery clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-14s %s\n", $$1, $$2}'

demo: $(VENV)/.installed ## Index the example photographs, search them, draw what was found
	@$(BIN)/simdist ingest examples/photos --collection demo --model efficientnet-lite0
	@$(BIN)/simdist search examples/queries/*.jpg --collection demo --out similar.png
	@echo
	@echo "Look at similar.png. Then try it on photographs of your own:"
	@echo "  $(BIN)/simdist ingest ~/Pictures --model efficientnet-lite0"
	@echo "  $(BIN)/simdist search PHOTO.jpg --out similar.png"

check: ## Lint, then the fast tests: what to run before each commit
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory test-fast

test-fast: $(VENV)/.installed-test ## Run the unit and integration tests that take no time, on one server
	@$(PYTEST) -n 2 -m 'not slow' --ignore tests/browser --ignore tests/cluster $(ARGS)

test: $(VENV)/.installed-test $(LSHASH3)/.installed ## Install what the tests need and run them all, the fast ones first
ifdef ARGS
	@$(PYTEST) -n 2 $(ARGS)
else
	@$(MAKE) --no-print-directory test-fast
	@$(MAKE) --no-print-directory test-rest
endif

test-rest: $(VENV)/.installed-test $(LSHASH3)/.installed ## Run the tests that test-fast leaves out
	@$(PYTEST) -n 3 -m slow $(ARGS)

test-long: ## Run all tests, in longer series: before a release
	@SIMDIST_LONG=1 $(MAKE) --no-print-directory test

test-containers: $(VENV)/.installed-test ## Run what deploy/compose.md says, in containers (SIMDIST_CONTAINERS=docker)
	@$(PYTEST) -s tests/containers/test_compose.py $(ARGS)

test-kubernetes: $(VENV)/.installed-test ## Have an API server of Kubernetes take the manifests (deploy/kubernetes.md has what it needs)
	@$(PYTEST) -s tests/kubernetes/test_manifests.py $(ARGS)

test-machines: $(VENV)/.installed-test ## Cut the wires between three machines made of namespaces (as root; needs faketime)
	@$(PYTEST) -s tests/machines/test_machines.py tests/machines/test_service.py $(ARGS)

lint: $(VENV)/.installed-test ## Check style, types, and what imports what
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo --no-cache
	@$(BIN)/mypy
	@! git grep -nE '^(<<<<<<<|>>>>>>>) '

docs: $(VENV)/.installed-test ## Write docs/commands.md from the code
	@$(BIN)/python -m simdist.cli.reference > docs/commands.md

lock: $(VENV)/bin/python $(BIN)/uv ## Write requirements.lock, what the image is made of, from constraints.txt
	@$(UV) pip compile --quiet pyproject.toml -c constraints.txt --python $(BIN)/python --generate-hashes \
		--no-header --no-annotate --no-emit-index-url --output-file requirements.lock

audit: $(BIN)/uv ## Write what the image is made of to bench/out/sbom.json (CycloneDX), and ask what is known to be weak in it
	@mkdir -p bench/out
	@$(UV) tool run --from cyclonedx-bom==7.5.0 cyclonedx-py requirements requirements.lock -o bench/out/sbom.json
	@$(UV) tool run --from pip-audit==2.10.1 pip-audit --strict --disable-pip --require-hashes -r requirements.lock

format: $(VENV)/.installed-test ## Format the code
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

bench-ingest: $(VENV)/.installed-test ## Measure the pipeline, its parts and its peers
	@$(BIN)/python -m bench.ingest $(ARGS)

bench-memory: $(VENV)/.installed-test ## Measure whether an ingest's memory grows with the images
	@$(BIN)/python -m bench.memory $(ARGS)

bench-scaling: $(VENV)/.installed-test ## Measure ingest with one to four (sleeping) GPUs
	@$(BIN)/python -m bench.scaling $(ARGS)

bench-decoding: $(VENV)/.installed-test ## Measure decoding, and what it does to retrieval
	@$(BIN)/python -m bench.decoding $(ARGS)

bench-pixels: $(VENV)/.installed-test ## Measure ways from pictures to vectors, by what they find and cost
	@$(BIN)/python -m bench.pixels $(ARGS)

models: $(VENV)/.installed-test ## Measure the models, and write their table in docs/models.md
	@$(BIN)/python -m bench.models $(ARGS)

bench-network: $(VENV)/.installed-test ## Measure what each measure for the network on a CPU is worth
	@$(BIN)/python -m bench.network $(ARGS)

bench-transfer: $(VENV)/.installed-test ## Measure export, import and copy
	@$(BIN)/python -m bench.transfer $(ARGS)

bench-index: $(VENV)/.installed-bench $(LSHASH3)/.installed ## Measure search beside its peers (SIZE=1000000 for scale)
	@$(BIN)/python -m bench.index $(if $(SIZE),--size $(SIZE)) $(ARGS)

bench-filter: $(VENV)/.installed-bench ## Measure searches with a filter beside its peers (SIZE=1000000 for scale)
	@$(BIN)/python -m bench.filter $(if $(SIZE),--size $(SIZE)) $(ARGS)

bench-offload: $(VENV)/.installed-bench ## Measure a collection whose vectors are in files (SIZE=1000000 for scale)
	@$(BIN)/python -m bench.offload $(if $(SIZE),--size $(SIZE)) $(ARGS)

bench-serve: $(VENV)/.installed-test ## Measure the service beside an empty one
	@$(BIN)/python -m bench.serve $(ARGS)

bench-workers: $(VENV)/.installed-test ## Measure one to eight query workers on small machines (as root)
	@$(BIN)/python -m bench.workers $(ARGS)

bench-gallery: $(VENV)/.installed-test ## Measure the page: first screens, scrolling
	@$(BIN)/python -m bench.gallery $(ARGS)

bench-duplicates: $(VENV)/.installed-bench ## Measure duplicates and neighbours
	@$(BIN)/python -m bench.duplicates $(ARGS)

clean: ## Remove what make made
	rm -rf $(VENV) $(LSHASH3) bench/out similar.png

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "simdist needs Python 3.11 or newer; name one with: make PYTHON=python3.11 ...")'
	@$(PYTHON) -m venv $(VENV)

$(BIN)/uv: | $(VENV)/bin/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/uv
	@echo "Installing simdist into $(VENV): some 6 GB with torch, a few minutes the first time"
	@$(INSTALL) -e '.[train]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@$(INSTALL) -e '.[test]'
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	@$(INSTALL) -e '.[bench]'
	@touch $@

# lshash3, the oracle of the tests of LSHash, builds only with an old setuptools, and needs it when
# it is imported: it has an environment of its own.
$(LSHASH3)/.installed: tests/lshash3-requirements.txt | $(VENV)/bin/python
	@$(PYTHON) -m venv $(LSHASH3)
	@$(LSHASH3)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.3'
	@$(LSHASH3)/bin/python -m pip install --quiet --disable-pip-version-check --build-constraint $< -r $<
	@touch $@
