"""The stages train → export → certify → promote and study, one folder each, and what they share."""

import os

# Libraries read these when they are imported, and child processes inherit them.
os.environ.setdefault("DO_NOT_TRACK", "true")  # no usage statistics
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# A server that accepts and never answers is given up after about 15 seconds.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
# A proxy must not be asked for what runs on this machine.
for name in ("no_proxy", "NO_PROXY"):
    own = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    os.environ[name] = ",".join(filter(None, [own, "127.0.0.1", "localhost", "::1"]))
