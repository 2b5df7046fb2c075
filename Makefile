# `make paper` and `make test` need nothing but make, Python 3.11 or later and a package index. `make` alone lists every target.
PROFILE ?= auto
COMMIT ?=# COMMIT=1 writes results into figures/, where git sees them
UV ?= $(shell command -v uv 2>/dev/null)# `make env UV=` uses pip although uv is there

# An active virtual or conda environment is used as it is, but not conda's own (base); otherwise .venv is made here.
ACTIVE := $(or $(VIRTUAL_ENV),$(if $(filter base,$(CONDA_DEFAULT_ENV)),,$(CONDA_PREFIX)))
ENV := $(or $(ACTIVE),$(CURDIR)/.venv)
PYTHON := $(ENV)/bin/python

# The environment is made again when the requirements, its place or its Python are not those it was made with.
KEY := $(shell { cat pyproject.toml constraints.txt; echo "$(ENV)"; } | cksum | cut -d " " -f 1)
STAMP := build/env/$(KEY)
MISSING := $(shell test -x "$(PYTHON)" || echo force)

# The environment's own pip only where there is no uv: a .venv that uv made has none.
INSTALL := $(if $(UV),"$(UV)" pip install --python "$(PYTHON)","$(PYTHON)" -m pip install) -c constraints.txt

# uv reads none of pip's settings.
ifneq ($(PIP_FIND_LINKS),)
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif
ifneq ($(PIP_INDEX_URL),)
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif
ifneq ($(PIP_EXTRA_INDEX_URL),)
export UV_INDEX ?= $(PIP_EXTRA_INDEX_URL)
export UV_INDEX_STRATEGY ?= unsafe-best-match
endif

# 16 and then 00 sum up what the other notebooks report, so they run after them.
TWINS := $(patsubst notebooks/src/%.py,%,$(sort $(wildcard notebooks/src/[0-9]*.py)))
LAST := $(foreach name,16_paper 00_start_here,$(filter $(name),$(TWINS)))
OTHERS := $(filter-out $(LAST),$(TWINS))
executed = $(patsubst %,build/$(PROFILE)/%.ipynb,$(1))

CODE := sympo tests scripts notebooks docs

# What `make check` leaves out: it has to end within two minutes on two cores, and `make test` within twelve.
SLOW := slow or nightly or pypi or cuda
TESTS := --numprocesses 2 --dist worksteal

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help env lab paper executed figures notebooks smoke check test nightly faults e2e lint book pdf verify bench badges clean force

help:  ## list the targets
	@echo "make TARGET [PROFILE=smoke|laptop|gpu|paper]: gpu is taken on a GPU with bfloat16, laptop elsewhere."
	@sed -n 's/^\([a-z0-9]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F '|' '{ printf "  %-9s  %s\n", $$1, $$2 }'

env: $(STAMP)  ## install the exact versions of constraints.txt, into the active environment or .venv

$(STAMP): $(MISSING)
	@rm -rf build/env  # no stamp outlives an installation that fails
	@echo "environment: $(ENV) ($(if $(ACTIVE),the active one,made here), with $(if $(UV),uv,pip))"
	@$(if $(ACTIVE),:,$(MAKE_VENV))
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "$(ENV) has no Python 3.11 or later: deactivate it or make it anew with one." >&2; exit 1; }
	@$(INSTALL) $(if $(UV),--compile-bytecode,--no-compile) -e ".[paper,test]" || \
	  { echo "the packages could not be installed: see the message above$(if $(UV), (pip's configuration files mean nothing to uv; make env UV= uses pip))." >&2; exit 1; }
	@$(if $(UV),:,$(COMPILE))
	@mkdir -p build/env && touch $@

# What pip would do on one core. Some packages hold files in the syntax of a later Python, which nobody imports.
define COMPILE
"$(PYTHON)" -m compileall -q -j 0 "$$("$(PYTHON)" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
  > /dev/null 2>&1 || :
endef

define MAKE_VENV
if ! test -x "$(PYTHON)"; then \
  for name in python3 python3.13 python3.12 python3.11 python none; do \
    $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
  done; \
  if test $$name = none; then echo "no Python 3.11 or later on the PATH: install one, then run make again." >&2; exit 1; fi; \
  $(if $(UV),"$(UV)" venv --quiet --clear --python "$$(command -v $$name)",$$name -m venv --clear) "$(ENV)" || \
    { echo "$$name could not make $(ENV): install uv or your system's package of the venv module." >&2; exit 1; }; \
fi
endef

lab: env  ## open JupyterLab on the notebooks; LAB="--no-browser --allow-root" passes options on
	JUPYTER_PREFER_ENV_PATH=1 JUPYTER_CONFIG_PATH="$(CURDIR)/notebooks/jupyter$${JUPYTER_CONFIG_PATH:+:$$JUPYTER_CONFIG_PATH}" \
	  "$(PYTHON)" -m jupyterlab --ServerApp.root_dir="$(CURDIR)" \
	  --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb \
	  --LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate $(LAB)

paper: env  ## run every notebook that is not up to date, into build/; COMMIT=1: and into figures/
	@profile=$$("$(PYTHON)" -m sympo.book inputs --profile "$(PROFILE)") || exit; \
	if $(MAKE) -q --no-print-directory executed PROFILE=$$profile; then \
	  echo "nothing to do: every notebook of profile $$profile is up to date (build/$$profile)"; \
	else \
	  began=$$(date +%s); \
	  "$(PYTHON)" -m sympo.book data && \
	  $(MAKE) --no-print-directory executed PROFILE=$$profile && \
	  "$(PYTHON)" -m sympo.book summary --profile $$profile --since $$began; \
	fi$(if $(COMMIT), && "$(PYTHON)" -m sympo.book commit --profile $$profile)

executed: $(call executed,$(OTHERS) $(LAST))

$(call executed,$(TWINS)): build/$(PROFILE)/%.ipynb: build/$(PROFILE)/inputs/%.txt
	@"$(PYTHON)" -m sympo.book run $* --profile $(PROFILE)

$(call executed,$(LAST)): $(call executed,$(OTHERS))
$(call executed,$(lastword $(LAST))): $(call executed,$(filter-out $(lastword $(LAST)),$(LAST)))

smoke:  ## `make paper` in a few minutes, with numbers that mean nothing
	@$(MAKE) --no-print-directory paper PROFILE=smoke

figures: env  ## draw the committed data again, into build/; COMMIT=1: into figures/
	@"$(PYTHON)" -m sympo.book figures --profile "$(PROFILE)" $(if $(COMMIT),--commit)

notebooks:  ## `make paper COMMIT=1` in the laptop profile, and its outputs into the committed notebooks
	@$(MAKE) --no-print-directory paper PROFILE=laptop COMMIT=1
	@"$(PYTHON)" -m sympo.book notebooks --profile laptop

check: lint  ## lint, types and the quick tests, in two minutes: before every commit
	@OMP_NUM_THREADS=1 "$(PYTHON)" -m pytest $(TESTS) -m "not ($(SLOW))"

test: lint  ## lint, types and the tests, in twelve minutes: seven notebooks run in the smoke profile
	@OMP_NUM_THREADS=1 "$(PYTHON)" -m pytest $(TESTS) -m "not nightly"

nightly: lint  ## `make test`, the tests that take longest, and `make faults`
	@OMP_NUM_THREADS=1 "$(PYTHON)" -m pytest $(TESTS); tested=$$?; \
	$(MAKE) --no-print-directory faults && exit $$tested

faults: env  ## kill, fill, fuzz and damage what there is, in a quarter of an hour: nothing may be lost
	@OMP_NUM_THREADS=1 "$(PYTHON)" scripts/faults $(if $(COMMIT),--commit)

e2e: env  ## run notebooks in JupyterLab under a headless Chromium; E2E="-k 02" chooses
	@$(INSTALL) --quiet -e ".[e2e]"
	@OMP_NUM_THREADS=1 "$(PYTHON)" -m pytest -m e2e tests/e2e --timeout=1200 $(E2E)

lint: env  ## ruff's checks and format, mypy's types
	@"$(PYTHON)" -m ruff check $(CODE)
	@"$(PYTHON)" -m ruff format --check $(CODE)
	@"$(PYTHON)" -m mypy

book: env  ## the notebooks as an HTML book in build/book, with their last outputs
	@"$(PYTHON)" -m sympo.book html --profile "$(PROFILE)"

pdf: env  ## the same as a PDF, in three minutes; needs Chromium
	@"$(PYTHON)" -m sympo.book pdf --profile "$(PROFILE)"

verify: env  ## compare your run with the committed one: which conclusions held here
	@"$(PYTHON)" -m sympo.book verify --profile "$(PROFILE)"

bench: env  ## measure what is fast here beside the plain way of doing it, on a machine that does nothing else
	@"$(PYTHON)" -m sympo.book.bench --profile "$(PROFILE)" $(if $(COMMIT),--commit)

badges: env  ## write this repository's address, REPO=owner/name, into notebooks and README
	@"$(PYTHON)" -m sympo.book badges "$(REPO)"

clean:  ## remove build/ (executed notebooks, records) and caches; figures/ and .venv stay
	rm -rf build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find $(CODE) \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
