"""The stages train → export → certify → promote and study, one folder each, and what they share."""

import atexit
import gc
import os

# Most objects of a stage are made by imports and live to its end: to search them for garbage takes
# up to half of the time that importing and ending take.
gc.set_threshold(100_000)
atexit.register(gc.freeze)

# Libraries read these when they are imported, and child processes inherit them.
os.environ.setdefault("DO_NOT_TRACK", "true")  # no usage statistics
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# A server that accepts and never answers is given up after 5 seconds.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
# In the terminal, Prefect's own lines only if something is wrong; its UI has all of them.
os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "WARNING")
# A proxy must not be asked for what runs on this machine; "*" means that none is ever asked.
if (direct := os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")) != "*":
    hosts = [*filter(None, direct.split(",")), "127.0.0.1", "localhost", "::1"]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(dict.fromkeys(hosts))
