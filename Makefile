PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# one thread each: several processes with as many threads as there are cores slow each other down
PYTEST := OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1 $(BIN)/python -m pytest
# one more than two cores: some tests wait
PARALLEL := -n 3 --dist loadgroup

.PHONY: help install demo test test-deep test-real test-gpu soak bench bench-peers lint format docs deploy-lock clean

help:
	@echo "make demo       install Fedloom and run a real federated campaign (needs Python 3.11 or newer)"
	@echo "make test       install the test requirements and run the fast tests: each behaviour once"
	@echo "make test-deep  test other databases, sizes and seeds, and long runs"
	@echo "make test-real  test with a real small model and real data, if they are installed"
	@echo "make test-gpu   test every family of base models on a CUDA GPU in each precision, if there is one"
	@echo "make soak       run campaigns for half an hour with random kills, then long random interleavings"
	@echo "make bench      measure what docs/benchmarks.md has in tables, and write them (needs an idle machine; Linux)"
	@echo "make bench-peers  install Flower and NVFlare into .cache/peers, and time the same rounds in all three (Linux)"
	@echo "make lint       run ruff, mypy --strict and the import rules"
	@echo "make format     format the code"
	@echo "make docs       generate docs/campaign.md and the table of benchmarks from the code"
	@echo "make deploy-lock  generate the dependencies with hashes in deploy/ from constraints.txt"

# runs again when the dependencies change; prints errors only
$(VENV)/installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing Fedloom and its tools into $(VENV); torch is large, so this can take minutes"
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@

install: $(VENV)/installed

demo: install
	@OMP_WAIT_POLICY=passive $(BIN)/python examples/quickstart/demo.py

test: install
	@$(PYTEST) -m "not (deep or soak or real)" $(PARALLEL)

test-deep: install
	@$(PYTEST) -m "deep and not soak" $(PARALLEL)

test-real: install
	@$(PYTEST) -m real $(PARALLEL)

# one at a time: they share the GPU
test-gpu: install
	@$(PYTEST) tests/zoo/test_on_gpu.py

soak: install
	@$(BIN)/python -m tests.faults.soak
	@$(PYTEST) -m soak $(PARALLEL) --timeout 7200

bench: install
	@OMP_WAIT_POLICY=passive $(BIN)/python benchmarks/report.py

bench-peers: install
	@OMP_WAIT_POLICY=passive $(BIN)/python benchmarks/report.py peers

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache | tail -n 3

format: install
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

docs: install
	@$(BIN)/python -m fedloom campaign reference > docs/campaign.md
	@$(BIN)/python -m fedloom.reference.benchmark_catalogue > catalogue.part && mv catalogue.part shared/benchmarks/catalogue.json

# for every platform and Python version that Fedloom supports, in the versions of constraints.txt
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
           --custom-compile-command "make deploy-lock" --constraints constraints.txt

deploy-lock: install
	@$(COMPILE) --extra coordinator --output-file deploy/requirements.txt pyproject.toml
	@echo hatchling | $(COMPILE) --output-file deploy/build-requirements.txt -

clean:
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache dist build
