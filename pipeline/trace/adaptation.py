"""The link from an adapted model to the trained one: the re-estimation, computed again."""

import numpy as np
import onnx
from onnx import numpy_helper

from pipeline.adapt.ancestor import trained_network
from pipeline.adapt.candidate import adapt_network, build_adapted
from pipeline.adapt.traffic import Sample, read_sample
from pipeline.core import files
from pipeline.core.params import load_params
from pipeline.trace.subject import GapError, Subject
from pipeline.tracking.adaptations import SAMPLE
from pipeline.tracking.registry import ADAPTED_FROM
from pipeline.tracking.store import download

TOLERANCE = 1e-5  # of a folded weight: another processor rounds differently


def check_adaptation(subject: Subject) -> str:
    """The trained weights and the sample in the adaptation's run give the same model again."""
    assert subject.version
    number = subject.version.tags[ADAPTED_FROM]
    if not subject.trained:
        raise GapError("missing", f"version {number}, from which it was adapted, is gone")
    sample, key = sample_of(subject), load_params().export.network
    try:
        network = trained_network(subject.trained, key)
    except (FileNotFoundError, ValueError) as error:
        raise GapError("missing", str(error)) from error
    again = build_adapted(adapt_network(network, sample), subject.trained, sample)
    seen = f"re-estimated again from version {number} and {len(sample.images)} rows"
    if again != subject.registered:
        difference = largest_difference(again, subject.registered or b"")
        if not difference <= TOLERANCE:
            raise GapError("broken", f"{seen}, a weight differs by {difference:.2g}")
        return f"{seen}: the same but for rounding"
    return f"{seen}: the same bytes"


def sample_of(subject: Subject) -> Sample:
    """Return the sample in the adaptation's run, whose digest version and model have."""
    folder = subject.adaptation.info.artifact_uri if subject.adaptation else None
    content = download(folder, SAMPLE) if folder else None
    if content is None:
        raise GapError("missing", "the sample is no longer in the adaptation's run in MLflow")
    found = files.sha256(content)
    if {subject.tag("sample.sha256"), subject.metadata().get("sample.sha256")} != {found}:
        raise GapError("broken", f"the sample has SHA-256 {found}, not the one it was adapted to")
    return read_sample(content)


def largest_difference(model: bytes, other: bytes) -> float:
    """Return the largest difference of a number in the tensors of two ONNX files, NaN if they have
    other tensors."""
    first, second = (
        [numpy_helper.to_array(t) for t in onnx.load_from_string(content).graph.initializer]
        for content in (model, other)
    )
    if [array.shape for array in first] != [array.shape for array in second]:
        return float("nan")
    pairs = zip(first, second, strict=True)
    return max(float(np.abs(a.astype(np.float64) - b).max(initial=0)) for a, b in pairs)
