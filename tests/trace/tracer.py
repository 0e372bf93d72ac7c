"""Reads lines of JSON, [store, output, *arguments], and runs `python -m pipeline.trace` for each in
a forked process, so that the imports, which take seconds, happen once."""

import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path

import mlflow.store.model_registry.sqlalchemy_store
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  # these are imported late otherwise
from sqlalchemy.orm import configure_mappers

import pipeline.trace.chain  # noqa: F401
from pipeline.trace.__main__ import main

configure_mappers()
for line in sys.stdin:
    store, output, *arguments = json.loads(line)
    child = os.fork()
    if not child:
        os.environ["MLFLOW_TRACKING_URI"] = store
        sys.argv[1:] = arguments
        with Path(output).open("w") as file, redirect_stdout(file):
            main()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
