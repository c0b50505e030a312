# What CI runs is what a person runs. `make help` lists the targets.
#
# Everything is set up on first use: a virtual environment in .venv with pinned requirements, and
# the extension module, built in release mode and installed in place. Each step leaves a stamp and
# runs again only when what it read has changed.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV ?= .venv
PYTHON ?= $(shell .ci/find-python)
# Empty while you work; CI sets --locked, so that a stale Cargo.lock is an error there.
CARGO_FLAGS ?=
# Arguments for pytest, such as: make test-python PYTEST_ARGS="-k cancel"
PYTEST_ARGS ?=
FUZZ_SECONDS ?= 60
# A debug build of the interpreter, which checks reference counts and more.
DEBUG_PYTHON ?= $(firstword $(wildcard /usr/bin/python3.*-dbg))

BIN := $(VENV)/bin
VENV_PYTHON := $(abspath $(BIN)/python)
# Cargo and maturin name the same interpreter, or each would rebuild the binding after the other.
export PYO3_PYTHON := $(VENV_PYTHON)

REQUIREMENTS := requirements/build.txt requirements/test.txt requirements/lint.txt \
	requirements/demo.txt requirements/lock.txt
RUST_SOURCES := $(shell find crates -type f -path '*/src/*' -o -name Cargo.toml -o -name build.rs) Cargo.toml \
	$(wildcard Cargo.lock rustfmt.toml)

# The benchmark's client is a package of its own, and is checked without OpenSSL's headers.
BENCH_CLIENT := --manifest-path bench/loop/client/Cargo.toml --target-dir target/bench-client

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' \
		| while IFS='|' read -r name text; do printf '  make %-17s %s\n' "$$name" "$$text"; done
	@echo '  .ci/run                What CI runs: lint, test, and the short form on other Pythons'

.PHONY: demo
demo: $(VENV)/.built ## Run the demo: one service, four ways, with its timeline in out/
	$(BIN)/offloop demo

.PHONY: test
test: test-rust test-python ## Run every test of both languages

.PHONY: test-rust
test-rust: $(VENV)/.installed ## Run the Rust tests, simulation and fault tests included
	cargo test $(CARGO_FLAGS) --workspace --exclude offloop-python
	cargo test $(CARGO_FLAGS) $(BENCH_CLIENT)

.PHONY: test-python
test-python: $(VENV)/.built ## Run the Python tests in full: fast ones first, chaos last
	$(BIN)/python -m pytest tests/tidy $(PYTEST_ARGS)
	$(BIN)/python -m pytest tests --ignore=tests/tidy --ignore=tests/conformance \
		--ignore=tests/chaos $(PYTEST_ARGS)
	$(BIN)/python -m pytest tests/conformance $(PYTEST_ARGS)
	$(BIN)/python -m pytest tests/chaos $(PYTEST_ARGS)

# Tests of ours that run their loops as programs do. The other ones block loops on purpose, turn the
# watch on themselves, or count descriptors.
GATED := tests/streams tests/test_to_process.py tests/test_resolving.py tests/test_process_pool.py \
	tests/test_contract_cancelling.py tests/test_contract_errors.py tests/test_queue_limits.py \
	tests/loop/test_streams_on_the_loop.py tests/loop/test_tls.py

.PHONY: test-gated
test-gated: $(VENV)/.built ## Run tests of ours under the gate: none blocks its loop or leaves anything
	$(BIN)/python -m pytest $(GATED) --offloop-max-stall=1s $(PYTEST_ARGS)

.PHONY: test-quick
test-quick: $(VENV)/.built ## Run the short form of the Python tests
	$(BIN)/python -m pytest tests -m quick $(PYTEST_ARGS)

.PHONY: test-executors
test-executors: $(VENV)/.built ## Run the interpreter's own tests of executors on our pool
	$(BIN)/python -m pytest tests/conformance/test_standard_suite.py $(PYTEST_ARGS)

.PHONY: test-loop
test-loop: $(VENV)/.built ## Run the tests of the event loop, the interpreter's own included
	$(BIN)/python -m pytest tests/loop tests/conformance/test_event_loop.py $(PYTEST_ARGS)

.PHONY: test-debug-python
test-debug-python: ## Run them on a debug build of the interpreter, DEBUG_PYTHON
	@test -n "$(DEBUG_PYTHON)" || { echo 'test-debug-python needs a debug build of Python' \
		'(Debian: apt-get install python3-dbg python3-venv libpython3-testsuite)' >&2; exit 1; }
	# The wheel of multidict takes a release build for granted, and crashes under the standard loop too.
	MULTIDICT_NO_EXTENSIONS=1 \
	$(MAKE) VENV=.venv-debug PYTHON="$(DEBUG_PYTHON)" PYTEST_ARGS="--timeout 300 $(PYTEST_ARGS)" \
		test-loop

# The extension is built with the sanitizer and put into a copy of the packages, so that no
# other program imports it. The allocator of C tells the sanitizer of each object, Python's own does
# not.
ASAN_DIR := $(CURDIR)/target/asan
ASAN_TARGET = $(shell rustc -vV | sed -n 's/^host: //p')
.PHONY: asan
asan: $(VENV)/.built ## Run the tests of the event loop under the address sanitizer
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_PROFILE_RELEASE_LTO=off \
		cargo build $(CARGO_FLAGS) --release -p offloop-python \
		--target $(ASAN_TARGET) --target-dir $(ASAN_DIR)
	rm -rf $(ASAN_DIR)/packages $(ASAN_DIR)/report.*
	cp -r python $(ASAN_DIR)/packages
	rm -f $(ASAN_DIR)/packages/_offloop_worker/*.so
	cp $(ASAN_DIR)/$(ASAN_TARGET)/release/lib_offloop.so "$(ASAN_DIR)/packages/_offloop_worker/_offloop$$( \
		$(BIN)/python -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')"
	PYTHONPATH=$(ASAN_DIR)/packages PYTHONMALLOC=malloc PYTHONDONTWRITEBYTECODE=1 \
		LD_PRELOAD="$$(cc -print-file-name=libasan.so)" \
		ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:log_path=$(ASAN_DIR)/report \
		$(VENV_PYTHON) -m pytest tests/loop --timeout 300 $(PYTEST_ARGS) \
		|| { cat $(ASAN_DIR)/report.* 2>/dev/null; exit 1; }
	@! ls $(ASAN_DIR)/report.* 2>/dev/null || { cat $(ASAN_DIR)/report.*; exit 1; }

.PHONY: lint
lint: $(VENV)/.built ## Check formats, lints, types and stubs
	cargo fmt --all --check
	cargo clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings
	cargo fmt --manifest-path bench/loop/client/Cargo.toml --check
	cargo clippy $(CARGO_FLAGS) $(BENCH_CLIENT) --all-targets -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/stubtest _offloop_worker._offloop offloop --mypy-config-file pyproject.toml \
		--allowlist tests/typing/stubtest-allowlist.txt

.PHONY: format
format: $(VENV)/.installed ## Rewrite the sources in the checked format
	cargo fmt --all
	cargo fmt --manifest-path bench/loop/client/Cargo.toml
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench
bench: $(VENV)/.bench ## Measure the pools beside their peers, as ratios, into bench/out/
	$(BIN)/python -m bench.pools $(BENCH_ARGS)

.PHONY: bench-loop
bench-loop: $(VENV)/.bench ## Measure the event loop beside its peers and a floor in C
	$(BIN)/python -m bench.loop $(BENCH_ARGS)

.PHONY: bench-watch
bench-watch: $(VENV)/.bench ## Measure the watch beside other tools that find stalls
	$(BIN)/python -m bench.watch $(BENCH_ARGS)

# Other people's suites, from the package index: minutes to half an hour, and not part of CI.
# SUITES="anyio uvloop" chooses some; SUITES_ARGS=--write writes docs/suites.md.
.PHONY: suites
suites: $(VENV)/.built ## Run the suites of other projects on the standard loop and on ours
	$(BIN)/python -m bench.suites $(SUITES_ARGS) $(SUITES)

.PHONY: docs
docs: ## Build the documentation of the Rust crates
	RUSTDOCFLAGS='-D warnings' cargo doc $(CARGO_FLAGS) --workspace --no-deps

.PHONY: loom
loom: ## Model-check the rings (minutes)
	RUSTFLAGS='--cfg loom' cargo test $(CARGO_FLAGS) -p offloop-sys --release \
		--target-dir target/loom loom

.PHONY: miri
miri: ## Run the tests of core and sys under Miri (needs nightly Rust with miri)
	@cargo +nightly miri --version >/dev/null 2>&1 \
		|| { echo 'miri needs: rustup +nightly component add miri' >&2; exit 1; }
	MIRIFLAGS='-Zmiri-disable-isolation' cargo +nightly miri test -p offloop-core -p offloop-sys --lib

.PHONY: fuzz
fuzz: ## Fuzz each target for FUZZ_SECONDS (needs nightly Rust and cargo-fuzz)
	@cargo +nightly fuzz --version >/dev/null 2>&1 \
		|| { echo 'fuzz needs nightly Rust and: cargo install cargo-fuzz' >&2; exit 1; }
	for target in $$(cargo +nightly fuzz list); do \
		cargo +nightly fuzz run "$$target" -- -max_total_time=$(FUZZ_SECONDS); \
	done

.PHONY: wheel
wheel: $(VENV)/.installed ## Build the wheel into target/wheels/
	$(BIN)/maturin build --release $(CARGO_FLAGS)

.PHONY: clean
clean: ## Remove what the other targets made
	rm -rf target .venv .venv-3.* .venv-chroot-3.* .venv-debug out bench/out .mypy_cache .ruff_cache .pytest_cache
	find python -name '*.so' -delete
	find python tests examples bench -name __pycache__ -prune -exec rm -rf {} +

# The steps of the set-up, each with its stamp.

$(VENV)/.created:
	@.ci/check-tools "$(PYTHON)"
	"$(PYTHON)" -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created $(REQUIREMENTS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements/lock.txt \
		-r requirements/build.txt -r requirements/test.txt -r requirements/lint.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		-r requirements/demo.txt
	@touch $@

$(VENV)/.built: $(VENV)/.installed $(RUST_SOURCES) pyproject.toml
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --release $(CARGO_FLAGS)
	@touch $@

$(VENV)/.bench: $(VENV)/.built bench/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r bench/requirements.txt
	@touch $@
