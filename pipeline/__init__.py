"""The stages train → export → certify → promote and study, one folder each, and what they share."""

import os

# Prefect and MLflow send usage statistics from their import on unless this is set.
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # 7 take minutes to give up
