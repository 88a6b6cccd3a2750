# make run    set up, and open DocPod in the browser; options: make run ARGS="--port 7861 --no-browser"
# make test   set up, then lint, type check and test what guards users; `make test-all`: the slow rest too
# make test-cluster  the replicas under Ray Serve, which are begun once; installs the extra `cluster`
# make faults  kill it, damage its files, fail its disk, cut its power, one fault after another; docs/reliability.md
# make setup  only set up: .venv with the packages of requirements*.txt
# make clean  remove everything that the others made
#
# Needs Python 3.11 or newer with venv: on Debian and Ubuntu, `sudo apt-get install make python3-venv`.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install -qq --disable-pip-version-check
CPU_TORCH := https://download.pytorch.org/whl/cpu

# A stamp carries the checksum of the requirements it stands for, so a second run has nothing to do.
stamp = $(VENV)/$(1)-$(shell cat $(2) | cksum | cut -d ' ' -f 1)
RUNTIME := $(call stamp,runtime,requirements.txt)
DEV := $(call stamp,dev,requirements.txt requirements-dev.txt)

.PHONY: run test test-all test-cluster faults setup clean

run: $(RUNTIME)
	@$(BIN)/python run_app.py $(ARGS)

# mypy runs beside the tests; either of them fails the build.
define check
$(BIN)/ruff check . && browser=$$(.ci/browser) && { $(BIN)/mypy & types=$$!; DOCPOD_CHROMIUM=$$browser OMP_NUM_THREADS=1 \
  $(BIN)/pytest -q -n auto --maxprocesses 4 --dist worksteal $(1); tests=$$?; wait $$types && exit $$tests; }
endef

test: $(DEV)
	@$(call check,-m "not slow and not cluster")

test-all: $(DEV)
	@export DOCPOD_KILLS=12; $(call check,-m "not cluster")

# One process, since the cluster is begun once.
test-cluster: $(DEV)
	@$(PIP) $$($(BIN)/python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project'];\
	  print(*project['optional-dependencies']['cluster'])")
	@CI=true $(BIN)/pytest -q tests/cluster

# Goes on where docs/reliability.json ends: make faults FAULTS_SECONDS=3600
FAULTS_SECONDS ?= 600
faults: $(DEV)
	@nice $(BIN)/python -m tests.faults --seconds $(FAULTS_SECONDS) --out docs/reliability.json

setup: $(DEV)
	@echo "DocPod is set up. Start it with: make run"

clean:
	@rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "DocPod needs Python 3.11 or newer, and $(PYTHON) is not: name another one, make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "Python's venv is missing. On Debian and Ubuntu: sudo apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# torch goes first: without an NVIDIA GPU its CPU build (0.2 GB instead of 3 GB) is taken, where its index answers.
# Its dependencies follow from the ordinary index with everything else.
$(RUNTIME): | $(BIN)/python
	@echo "Installing the packages DocPod runs on; the first time this takes a few minutes."
	@index=; if [ "$$(uname -s)" = Linux ] && ! nvidia-smi -L >/dev/null 2>&1 && $(BIN)/python -c \
	  'from urllib.request import urlopen; urlopen("$(CPU_TORCH)/torch/", timeout=10)' 2>/dev/null; \
	  then index="--extra-index-url $(CPU_TORCH)"; fi; \
	  $(PIP) --no-deps $$index "$$(grep '^torch>' requirements.txt)"
	@$(PIP) -r requirements.txt
	@rm -f $(VENV)/runtime-*; touch $@

$(DEV): $(RUNTIME)
	@echo "Installing the packages DocPod is tested with."
	@$(PIP) -r requirements-dev.txt
	@rm -f $(VENV)/dev-*; touch $@
