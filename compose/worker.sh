#!/bin/sh
# The worker's command in compose.yaml: clones the last commit of the mounted repository, creates the
# deployments, then runs them when they are due.
set -e
git init --quiet ~/project
cd ~/project
git fetch --quiet /repository HEAD
git reset --quiet --hard FETCH_HEAD
python -m pipeline.data
dvc --wait-for-lock commit --quiet --force data.dvc
prefect work-pool create mnist-batchnorm --type process --overwrite
prefect --no-prompt deploy --all
exec prefect worker start --pool mnist-batchnorm
