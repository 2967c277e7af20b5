# Two targets do everything: `make demo` and `make test`. Each sets up what it needs.
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test setup lint bench docs lock browser clean

demo: setup  ## start everything on this machine and play the scenario; Ctrl-C stops it
	$(BIN)/facefare demo

test: setup browser lint  ## every test
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

setup: $(READY)  ## the virtual environment, the networks, the compiled kernels
	@$(BIN)/facefare models install
	@$(BIN)/facefare web assets || true

$(READY): requirements.lock pyproject.toml tools/make_venv.sh
	@PYTHON=$(PYTHON) sh tools/make_venv.sh
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@echo "Compiling the kernels of the protocol (once) ..."
	@$(BIN)/python -m facefare.mpc.compile
	@touch $@

browser: setup  ## what the browser tests need: Chromium, and the pages' files from npm
	@sh tools/need.sh chromium chromium
	@sh tools/need.sh npm npm
	@$(BIN)/facefare web assets --for-tests

lint: setup  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: setup  ## every bench, beside its peer
	@for figure in identification guardian attempt face held ledger payments; do \
		echo "== facefare bench $$figure"; $(BIN)/facefare bench $$figure || exit 1; done

docs: setup  ## where to read on
	@ls docs/*.md docs/decisions/*.md

lock: setup  ## pin every dependency anew (needs the network)
	$(BIN)/pip install --quiet --target .cache/uv uv
	.cache/uv/bin/uv pip compile pyproject.toml --extra demo --extra dev --generate-hashes --python-version 3.11 --quiet -o requirements.lock

clean:
	rm -rf .venv .cache build *.egg-info src/*.egg-info
