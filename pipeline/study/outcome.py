"""Runs the stage `study`: its flow, which is imported while Prefect starts, and then one line."""

import os
import shutil

from models import NETWORKS
from pipeline.core import files
from pipeline.core.flows import run_flow
from pipeline.data.dataset import CLASSES, IMAGE_SHAPE, NAME
from pipeline.study.pair import PAIR


def run() -> None:
    """Run the flow, if its networks fit the data set, and print its outcome in a line."""
    if (*IMAGE_SHAPE, CLASSES) != (28, 28, 10) or not NETWORKS.keys() >= set(PAIR):
        text = (
            f"No study of {NAME}: it compares {' and '.join(PAIR)} of models/, on images of shape "
            f"(28, 28) in 10 classes; these have shape {IMAGE_SHAPE} and {CLASSES} classes.\n"
        )
        shutil.rmtree(files.STUDY, ignore_errors=True)
        files.write_atomically(files.STUDY / "report.md", text.encode())
        print(text, end="")
        return
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
