# The commands for people and CI. Each creates the virtual environment first if needed.

PYTHON ?= python3
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DO_NOT_TRACK := true
# A company's proxy may have a certificate authority of its own.
export UV_SYSTEM_CERTS := true
# MLflow's jobs evaluate language models; without them its server starts 2 processes, not 10.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION ?= false

# Copies of the lock that was installed, written last, so that a failed install does not count:
# what the pipeline needs, and with the development group all of it.
MAIN := .venv/main.lock
ALL := .venv/all.lock

# The sizes of the large downloads, but not a line for each of 300 packages.
BRIEFLY := 2> >(grep -v '^ [+~-] \|^ Downloaded\|^ *Built' >&2)

PYTEST := pytest -n 2 --dist loadfile --no-loadscope-reorder

.NOTPARALLEL:
.PHONY: repro study data test drill check serve drift ui bench dev lock clean help

repro: data ## Run every stage whose inputs have changed; STUDY=0: no study.
	dvc --wait-for-lock repro dvc.yaml $(if $(filter 0,$(STUDY)),,study/dvc.yaml)

study: data ## Run the study alone.
	dvc --wait-for-lock repro study/dvc.yaml

data: $(MAIN) ## Bring the data set into data/ and into DVC's cache.
	python -m pipeline.data
	dvc --wait-for-lock commit --quiet --force data.dvc

test: $(ALL) data ## Run the tests; DRILLS=1 adds the drills.
	$(PYTEST) -m "$(if $(DRILLS),,not slow)"

drill: $(ALL) data ## Run the drills (kills, outages, floods); WHAT=reload: some.
	$(PYTEST) -m slow -k "$(WHAT)"

check: $(ALL) ## Lint and type-check.
	ruff check .
	ruff format --check .
	mypy

serve: $(MAIN) ## Serve the exported networks at http://127.0.0.1:8080.
	python -m serve

drift: $(ALL) data ## See images change, the alarm ring, and the network adapt to them.
	python -m bench.repair

ui: $(MAIN) ## Show every run in MLflow at http://127.0.0.1:5000.
	@python -m pipeline.tracking
	case "$$MLFLOW_TRACKING_URI" in http*) ;; *) \
	    export MLFLOW_BACKEND_STORE_URI="$${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlflow.db}"; \
	    mlflow ui --allowed-hosts 'localhost:*,127.0.0.1:*';; esac

bench: $(ALL) data ## Time training and serving against peers.
	python -m bench.pipeline
	python -m bench.training
	python -m bench.step
	python -m bench.seeds
	python -m bench.serving
	python -m bench.drift
	python -m bench.adapt

dev: $(ALL) ## Install what tests, PostgreSQL and S3 need too.

lock: $(ALL) ## Upgrade all versions within the bounds of pyproject.toml.
	uv pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url \
	    --group dev --custom-compile-command "make lock" pyproject.toml -o requirements.lock

clean: ## Remove environments and caches, but no data, artifacts or runs.
	rm -rf .venv .triton .bench .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

help: ## List the commands.
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(MAIN): requirements.lock
	@cmp -s $< $@ && touch $@ || { \
	    set -e; rm -rf .venv; $(PYTHON) -m venv .venv; \
	    sed -n '/^uv==/,/# via/p' $< > .venv/uv.lock; \
	    python -m pip install --quiet --require-hashes -r .venv/uv.lock; \
	    uv pip install --python .venv --constraint $< -r pyproject.toml $(BRIEFLY); \
	    python -c 'import vl_convert; print(vl_convert.javascript_bundle())' > .venv/vega.js; \
	    cp $< $@; }

$(ALL): $(MAIN)
	@cmp -s requirements.lock $@ && touch $@ || { \
	    set -e; uv pip sync --require-hashes --python .venv requirements.lock $(BRIEFLY); \
	    cp requirements.lock $@; }
