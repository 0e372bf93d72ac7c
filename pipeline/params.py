"""Reads params.yaml into frozen models: what is allowed stands here alone.

`python -m pipeline.params` checks the file before a stage runs.
"""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.artifacts import ROOT

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A section of params.yaml: unknown keys and loosely typed values are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TrainParams(Section):
    """How both networks are trained."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=2, le=60_000)  # batch normalisation needs two images
    lr: Positive
    seed: int = Field(ge=0, lt=2**63)
    device: Literal["auto", "cpu", "cuda"]


class CertifyParams(Section):
    """What the deployed network may differ by."""

    max_abs_difference: Positive
    request_size: int = Field(ge=1, le=1024)  # what the server takes at once


class PromoteParams(Section):
    """What a model must show to become the champion."""

    min_test_accuracy: float = Field(ge=0, le=1)
    significance_level: float = Field(gt=0, lt=1)  # of the test that it is worse


class StudyParams(Section):
    """How much the study trains: more seeds narrow its intervals."""

    seeds: int = Field(ge=2, le=1000)  # a single seed has no interval
    images: int = Field(ge=64, le=60_000, multiple_of=32)  # no batch of a single image
    epochs: int = Field(ge=1)
    rates_epochs: int = Field(ge=1)
    scale_epochs: int = Field(ge=1)
    overfitting_epochs: int = Field(ge=1)
    device: Literal["auto", "cpu", "cuda"]


class Params(Section):
    """All of params.yaml."""

    train: TrainParams
    certify: CertifyParams
    promote: PromoteParams
    study: StudyParams


def load_params(path: Path = ROOT / "params.yaml") -> Params:
    """Read and check the whole file.

    Raises:
        ValueError: the file is missing or not YAML, or a parameter is unknown, missing or
            impossible; the message gives the name, what is allowed and the value.
    """
    try:
        return parse_params(YAML(typ="safe").load(path))
    except FileNotFoundError as error:
        raise ValueError(f"{path} not found: restore it with `git checkout params.yaml`") from error
    except YAMLError as error:
        raise ValueError(f"{path.name} is not valid YAML: {error}") from error


def parse_params(content: Any) -> Params:
    """Check the content of a params.yaml; see `load_params`."""
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise ValueError("\n".join(_describe(detail) for detail in error.errors())) from error


def _describe(detail: Any) -> str:
    name = ".".join(str(part) for part in detail["loc"]) or "params.yaml"
    problem = {
        "extra_forbidden": "is not a known parameter: remove it or mend its name",
        "missing": "is missing: add it to params.yaml",
    }.get(detail["type"])
    if problem:
        return f"{name} {problem}"
    allowed = detail["msg"].replace("Input should be", "must be")
    return f"{name} {allowed}, got {detail['input']!r}"


def main() -> None:
    """Check params.yaml."""
    try:
        load_params()
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
