#!/bin/sh
# The worker's command in compose.yaml: creates the nightly deployment, then runs it when it is due.
set -e
python -m pipeline.data
dvc --wait-for-lock commit --quiet --force data.dvc
prefect work-pool create mnist-batchnorm --type process --overwrite
prefect --no-prompt deploy --all
exec prefect worker start --pool mnist-batchnorm
