# The commands for people and CI. Each creates the virtual environment first if needed.

PYTHON ?= python3
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DO_NOT_TRACK := true

# A copy of the lock that was installed, written last, so that a failed install does not count.
INSTALLED := .venv/installed.lock

.PHONY: repro stages promote data test drill check serve ui bench lock

repro: $(INSTALLED) ## Run every stage whose inputs have changed; STUDY=0 leaves the study out.
	@python -m pipeline.core.prefect_server $(MAKE) --no-print-directory stages

stages: data
	dvc --wait-for-lock repro promote
	@python -m pipeline.promote.summary
ifneq ($(STUDY),0)
	dvc --wait-for-lock repro study
endif

promote: data ## Promote the model in artifacts/, once the stages before it are up to date.
	dvc --wait-for-lock repro promote

data: $(INSTALLED) ## Bring the data set into data/ and into DVC's cache.
	python -m pipeline.data
	dvc --wait-for-lock commit --quiet data.dvc

test: data ## Run the tests.
	pytest -n 2 --dist loadfile -m "not slow"

drill: data ## Run the drills, such as kills, outages and floods; WHAT=reload runs those on reloading.
	pytest -n 2 --dist loadfile -m drill -k "$(WHAT)"

check: $(INSTALLED) ## Lint and type-check.
	ruff check .
	ruff format --check .
	mypy

serve: $(INSTALLED) ## Serve the exported networks at http://127.0.0.1:8080.
	python -m serve

ui: $(INSTALLED) ## Show every run in MLflow.
	@echo "http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning"
	mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlflow.db}"

bench: data ## Time training and serving against peers; compare the losses with the tutorial's.
	python -m bench.training
	python -m bench.step
	python -m bench.seeds
	python -m bench.serving
	python -m bench.drift

lock: $(INSTALLED) ## Upgrade all versions within the bounds of pyproject.toml.
	uv pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url \
	    --group dev --custom-compile-command "make lock" pyproject.toml -o requirements.lock

$(INSTALLED): requirements.lock
	@cmp -s $< $@ && touch $@ || { \
	    set -e; rm -rf .venv; $(PYTHON) -m venv .venv; \
	    sed -n '/^uv==/,/# via/p' $< > .venv/uv.lock; \
	    python -m pip install --quiet --require-hashes -r .venv/uv.lock; \
	    uv pip sync --require-hashes --compile-bytecode --python .venv $<; \
	    cp $< $@; }
