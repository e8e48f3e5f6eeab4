# Every command a developer needs; `make` alone lists them.

CARGO  ?= cargo
PYTHON ?= python3

TARGET  := $(or $(CARGO_TARGET_DIR),target)
BINARY  := $(TARGET)/release/shardfold
DEMO    := fixtures/demo
MERGED  := $(TARGET)/demo-merged
MERGE   := --base $(DEMO)/base --adapter $(DEMO)/adapter
MACOS   := aarch64-apple-darwin
STATIC  := x86_64-unknown-linux-musl
VENV    := .venv
VENV_OK := $(VENV)/installed

# $(call with-target,TRIPLE,COMMANDS): runs them if rustup has the target or can get it, else says what was skipped.
with-target = @if rustup target list --installed 2>/dev/null | grep -qx $(1) || rustup target add $(1) >/dev/null 2>&1; \
	then set -ex; $(2); else echo "skipped: target $(1) cannot be installed with rustup here"; fi

# $(call with-maturin,COMMANDS): runs them if maturin is there or can be had, else says what was skipped.
PYENV := $(TARGET)/python
with-maturin = @if test -x $(PYENV)/bin/maturin || \
	{ $(PYTHON) -m venv $(PYENV) && $(PYENV)/bin/pip install --quiet 'maturin>=1.9,<2' numpy; } > /dev/null 2>&1; \
	then set -ex; $(1); else echo "skipped: maturin and numpy cannot be installed for $(PYTHON) here"; fi

.DEFAULT_GOAL := help
.PHONY: help build archive demo test second-opinion hostile fuzz model refused check-refused kills recipes cloud power-cut peers counts exhaustive golden models real real-mlx real-words real-image check check-cloud check-macos check-static check-memory bench shared doc fmt lint install wheel test-python

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the release binary, target/release/shardfold, with its symbols in shardfold.debug beside it
	CARGO_PROFILE_RELEASE_STRIP=none $(CARGO) build --release --bin shardfold
	@if command -v objcopy > /dev/null; then \
		objcopy --only-keep-debug $(BINARY) $(BINARY).debug; \
		objcopy --strip-all --add-gnu-debuglink=$(BINARY).debug $(BINARY); \
	else echo "skipped: without objcopy the symbols stay in the binary"; fi

demo: ## Plan and merge a small checkpoint, and compare with what PEFT gave
	$(CARGO) build --profile demo --features compare --bin shardfold --bin compare
	rm -rf $(MERGED) $(MERGED).partial
	mkdir -p $(dir $(MERGED))
	$(TARGET)/demo/shardfold plan $(MERGE) --output $(MERGED)
	$(TARGET)/demo/shardfold merge $(MERGE) --output $(MERGED)
	$(TARGET)/demo/compare $(MERGED) $(DEMO)/merged --max-ulp 1

test: ## Run all tests
	$(CARGO) test --lib --bins --tests
	$(CARGO) test --doc

hostile: ## Run each hostile input of the fixtures, and see that it takes neither a second nor much memory
	$(CARGO) test --release --test suite hostile:: -- --include-ignored --nocapture

fuzz: ## Damage files at random for three minutes for each parser (FUZZ_SECONDS; FUZZ_PARSER for one), and see that none panics
	$(CARGO) test --release --test suite -- --ignored --nocapture no_parser_panics_for_minutes

model: ## Run a merge's threads in the orders of a model checker: no deadlock, nothing lost, nothing claimed too early
	RUSTFLAGS="--cfg shardfold_model" $(CARGO) test --lib --target-dir $(TARGET)/model -- _model:: --nocapture

counts: ## Count what the structure promises: layers, circles, names, public items; LIST=1 lists every offender
	$(CARGO) test --quiet --test suite structure:: -- --nocapture

exhaustive: ## Run the tests that take minutes: every f32 through every conversion, a billion elements merged, 92,000 tensors of header, a thousand merges taken back
	$(CARGO) test --release --lib -- --ignored --nocapture narrow billion speed
	$(CARGO) test --release --test suite -- --ignored --nocapture unmerge::

golden: $(VENV_OK) models ## Make the fixtures again with the pinned PEFT, see that none changed, and run their tests
	$(VENV)/bin/python fixtures/make_golden.py
	git diff --exit-code --stat -- fixtures/golden fixtures/demo
	test -z "$$(git status --porcelain -- fixtures/golden fixtures/demo)"
	$(CARGO) test --test suite golden

models: build $(VENV_OK) ## Merge into tiny models of a hundred real families, diffusers' too, and compare with PEFT
	$(VENV)/bin/python fixtures/make_models.py $(BINARY) --samples fixtures/models
	$(VENV)/bin/python fixtures/make_diffusers.py $(BINARY) --samples fixtures/models
	git diff --exit-code --stat -- fixtures/models

real: build $(VENV_OK) ## Merge into a pretrained encoder, into language models, into what bitsandbytes, HQQ, quanto and torchao wrote, into GGUF files, and into what QLoRA saw, keep some quantized, and compare with PEFT in use
	$(VENV)/bin/python tests/real.py $(BINARY) $(TARGET)/real
	$(VENV)/bin/python tests/real_heads.py $(BINARY)
	$(VENV)/bin/python tests/real_bnb.py $(BINARY) $(TARGET)/real-bnb
	$(VENV)/bin/python tests/real_qlora.py $(BINARY) $(TARGET)/real-qlora
	$(VENV)/bin/python tests/real_kept.py $(BINARY) $(TARGET)/real-kept
	PATH=$(abspath $(VENV))/bin:$$PATH python tests/real_grouped.py $(BINARY) $(TARGET)/real-grouped
	$(VENV)/bin/python tests/real_gguf.py $(BINARY) $(TARGET)/real-gguf

real-mlx: build ## Merge into what MLX quantized, keep it quantized, and load the results with mlx-lm on the CPU
	test -d $(TARGET)/mlx || $(PYTHON) -m venv $(TARGET)/mlx
	$(TARGET)/mlx/bin/pip install --quiet 'mlx[cpu]==0.32.4' mlx-lm==0.32.2 numpy safetensors
	$(TARGET)/mlx/bin/python tests/real_mlx.py $(BINARY) $(TARGET)/real-mlx

real-words: build $(VENV_OK) ## Merge into what GPTQModel quantized and AutoAWQ packed, keep it quantized, and compare with what they decode
	test -d $(TARGET)/words || $(PYTHON) -m venv $(TARGET)/words
	ls -d $(abspath $(VENV))/lib/python*/site-packages > $$(ls -d $(TARGET)/words/lib/python*/site-packages)/others.pth
	$(TARGET)/words/bin/pip install --quiet gptqmodel==7.7.0 optimum==2.3.0
	$(TARGET)/words/bin/pip install --quiet --no-deps autoawq==0.2.9
	$(TARGET)/words/bin/python tests/real_words.py $(BINARY) $(TARGET)/real-words

real-image: build ## Merge adapters of image models into tiny components, and hold what diffusers makes of the results against it
	test -d $(TARGET)/image || $(PYTHON) -m venv $(TARGET)/image
	$(TARGET)/image/bin/pip install --quiet torch==2.15.0 diffusers==0.42.1 lycoris-lora==4.1.3 peft==0.21.2 transformers==5.24.0
	$(TARGET)/image/bin/python tests/real_image.py $(BINARY) $(TARGET)/real-image

second-opinion: build ## Compute the demo again with numpy, by the formula of LoRA (needs numpy: PYTHON=...)
	rm -rf $(TARGET)/second-opinion
	$(BINARY) merge --quiet $(MERGE) --scaled-adapter $(DEMO)/adapter -0.25 --output $(TARGET)/second-opinion
	$(PYTHON) tests/second_opinion.py $(DEMO)/base $(TARGET)/second-opinion $(DEMO)/adapter $(DEMO)/adapter=-0.25
	$(PYTHON) tests/second_opinion.py $(DEMO)/base $(DEMO)/merged $(DEMO)/adapter --max-ulp 1

refused: build ## Merge where calls are refused that stores may lack, one and two at a time (Linux, strace)
	$(PYTHON) tests/refused.py $(BINARY) $(DEMO) $(TARGET)/refused

check-refused: ## As `make refused`, with the binary that the tests use
	@if strace -qq -o /dev/null true 2> /dev/null && $(PYTHON) tests/busy_unlink.py /dev/null true 2> /dev/null; then \
		$(CARGO) build --bin shardfold && $(PYTHON) tests/refused.py $(TARGET)/debug/shardfold $(DEMO) $(TARGET)/refused; \
	else echo "skipped: calls are refused on Linux where strace and Python may watch a process"; fi

kills: build ## Kill a merge of five shards of 3 GB and one of a single file of 2 GB 200 times each, and run it again
	$(CARGO) run --release --example generate -- --shape llama-1b --shard-size 700M --out $(TARGET)/kills
	$(PYTHON) tests/kills.py $(BINARY) $(TARGET)/kills/base $(TARGET)/kills/adapter-r16-all-linear $(TARGET)/kills/out
	$(CARGO) run --release --example generate -- --shape one-tensor --bytes 2G --out $(TARGET)/kills-one
	$(PYTHON) tests/kills.py $(BINARY) $(TARGET)/kills-one/base $(TARGET)/kills-one/adapter-r16-all-linear $(TARGET)/kills-one/out

recipes: build ## Run the recipes for many hosts, where Slurm (root) or Ray and kubernetes-validate (PYTHON=...) are here
	@run() { rc=0; echo "+ $$*"; "$$@" $(abspath $(BINARY)) $(DEMO)/base $(DEMO)/adapter $(TARGET)/recipes || rc=$$?; \
		[ $$rc -eq 0 ] || [ $$rc -eq 77 ]; }; \
	run tests/recipes/slurm.sh && run $(PYTHON) tests/recipes/ray_cluster.py && run $(PYTHON) tests/recipes/kubernetes.py

cloud: ## Merge in a bucket of a server on this machine, where `moto_server` is installed (MOTO_SERVER=...)
	$(CARGO) build --release --features cloud --bin shardfold --target-dir $(TARGET)/cloud
	$(PYTHON) tests/cloud.py $(TARGET)/cloud/release/shardfold $(TARGET)/cloud/work
	$(PYTHON) tests/cloud.py $(TARGET)/cloud/release/shardfold $(TARGET)/cloud/work --failing 0.05

power-cut: ## Cut the power of a merge at 20 moments, in a virtual machine, and run it again (Linux, root, QEMU)
	$(CARGO) build --release --features testing --bin shardfold --target-dir $(TARGET)/testing
	$(CARGO) run --release --example generate -- --shape tiny --layers 60 --shard-size 1M --out $(TARGET)/power-cut
	tests/power_cut.sh $(TARGET)/testing/release/shardfold $(TARGET)/power-cut/base $(TARGET)/power-cut/adapter-r16-all-linear

peers: build ## Make one merge by what people use instead, too: time, memory, elements that differ (needs 40 GB of disk)
	$(CARGO) build --release --features compare --bin compare
	$(CARGO) run --release --example generate -- --shape llama-3b --out $(TARGET)/peers
	$(PYTHON) benches/peers/peers.py $(BINARY) $(TARGET)/release/compare $(TARGET)/peers --record

check: lint doc test check-cloud model test-python check-refused check-macos check-static check-memory ## Run what must pass before a push

check-cloud: ## Lint what the feature `cloud` adds, and merge in buckets in memory
	$(CARGO) clippy --all-targets --features cloud -- -D warnings
	$(CARGO) test --package crc-fast
	$(CARGO) test --features cloud --lib -- storage::cloud storage::address
	$(CARGO) test --features cloud --test suite -- cloud::

check-macos: ## Check that it compiles for macOS
	$(call with-target,$(MACOS),$(CARGO) check --target $(MACOS))

archive: ## Make the archive of a release for Linux on this CPU: static binary, completions, manual pages, licenses
	$(call with-target,$(STATIC),CARGO="$(CARGO)" PYTHON="$(PYTHON)" packaging/archive.sh $(STATIC) $(TARGET)/archives)

check-static: ## Make the archive, and start its binary where nothing else is
ifeq ($(shell uname -sm),Linux x86_64)
	$(call with-target,$(STATIC),\
		CARGO="$(CARGO)" PYTHON="$(PYTHON)" packaging/archive.sh $(STATIC) $(TARGET)/archives; \
		tests/bare.sh $(TARGET)/archives/shardfold-*-$(STATIC).tar.gz $(DEMO))
else
	@echo "skipped: the static build is made on Linux x86-64"
endif

check-memory: ## Check that benches/memory.sh can confine a process, and that the limit is found there (Linux, root)
	$(CARGO) test --lib --no-run
	@rc=0; benches/memory.sh --self-test && \
	benches/memory.sh --run 2GiB $(CARGO) test --lib -- --ignored --exact memory::limits::tests::finds_the_limit_it_runs_under || rc=$$?; \
	if [ $$rc -eq 77 ]; then echo "skipped: memory cgroups need root and a memory controller"; else exit $$rc; fi

bench: build ## Measure the kernels, a whole merge against a plain copy, and other methods against LoRA (needs 50 GB of disk)
	$(CARGO) bench --bench kernels
	$(CARGO) bench --bench pipeline
	$(CARGO) build --release --example generate
	$(PYTHON) benches/methods.py $(BINARY) $(TARGET)/release/examples/generate $(TARGET)/methods --record

shared: build ## Measure a merge into a base that shardfold made, where blocks can be shared (Linux, root, XFS)
	$(CARGO) run --release --example generate -- --shape llama-3b --targets q_proj,v_proj --out $(TARGET)/bench
	benches/shared.sh $(BINARY) $(TARGET)/bench/base $(TARGET)/bench/adapter-r16-q_proj-v_proj $(TARGET)/bench

doc: ## Build the documentation, with warnings denied
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps

fmt: ## Format the code
	$(CARGO) fmt --all

lint: ## Check formatting, and clippy with warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --all-targets -- -D warnings

wheel: ## Build the wheel for Python, which has the command and the module, into target/wheels
	$(call with-maturin,$(PYENV)/bin/maturin build --release --manifest-path python/Cargo.toml --out $(TARGET)/wheels)

test-python: ## Build and install the Python module, and run its tests; those that need torch say that they are skipped
	$(call with-maturin,\
		rm -rf $(TARGET)/test-wheels; \
		$(CARGO) clippy --package shardfold-python -- -D warnings; \
		$(PYENV)/bin/maturin build --profile dev --manifest-path python/Cargo.toml --out $(TARGET)/test-wheels; \
		$(PYENV)/bin/pip install --quiet --no-index --no-deps --force-reinstall $(TARGET)/test-wheels/*.whl; \
		$(PYENV)/bin/python -m unittest discover -s python/tests)

install: ## Install the command for this user
	$(CARGO) install --path . --locked

$(VENV_OK): fixtures/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet -r fixtures/requirements.txt
	touch $@
