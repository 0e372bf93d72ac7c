# The commands that people and CI call. Each makes the virtual environment first if it must.

PYTHON ?= python3
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DO_NOT_TRACK := true

# A copy of the lock that was installed: written last, so a failed install is never believed.
INSTALLED := .venv/installed.lock

.PHONY: repro data test check serve ui bench lock

repro: data ## Run every stage that is stale.
	python -m pipeline.params
	python -m pipeline.wait dvc --wait-for-lock repro

data: $(INSTALLED) ## Bring MNIST into data/ and into DVC's cache.
	python -m pipeline.data
	python -m pipeline.wait dvc --wait-for-lock commit --quiet data.dvc

test: data ## Run the tests.
	pytest

check: $(INSTALLED) ## Lint and type-check.
	ruff check .
	ruff format --check .
	mypy

serve: $(INSTALLED) ## Answer at http://127.0.0.1:8080.
	python -m serve

ui: $(INSTALLED) ## Show every run in MLflow at http://127.0.0.1:5000.
	mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlflow.db}"

bench: data ## Time training, study and serving beside their peers; set the losses beside the source's.
	python -m bench.training
	python -m bench.seeds
	python -m bench.ensemble
	python -m bench.serving
	python -m bench.drift

lock: $(INSTALLED) ## Choose versions anew within the bounds of pyproject.toml.
	uv pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url \
	    --group dev --custom-compile-command "make lock" pyproject.toml -o requirements.lock

$(INSTALLED): requirements.lock
	@cmp -s $< $@ && touch $@ || { \
	    set -e; rm -rf .venv; $(PYTHON) -m venv .venv; \
	    sed -n '/^uv==/,/# via/p' $< > .venv/uv.lock; \
	    python -m pip install --quiet --require-hashes -r .venv/uv.lock; \
	    uv pip sync --require-hashes --compile-bytecode --python .venv $<; \
	    cp $< $@; }
