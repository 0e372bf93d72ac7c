"""Runs the stage `study`: its flow, which is imported while Prefect starts, and then one line."""

import os

from pipeline.core import files
from pipeline.core.flows import run_flow


def run() -> None:
    """Run the flow, and print its outcome in a line; see `run_flow`."""
    try:
        run_flow("pipeline.study.flow:study")
    except ValueError as error:
        scheduler = os.environ.get("STUDY_DASK_SCHEDULER")
        hint = f" (STUDY_DASK_SCHEDULER is {scheduler!r})" if scheduler else ""
        raise ValueError(f"{error}{hint}") from error
    verdicts = [found["verdict"] for found in files.read_json(files.VERDICTS, "study").values()]
    print(
        f"{verdicts.count('holds')} of {len(verdicts)} claims about batch normalization hold; "
        f"see {(files.STUDY / 'report.html').relative_to(files.ROOT)}"
    )
