"""Reads params.yaml into frozen pydantic models, which define what is allowed."""

import re
import reprlib
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from models import NETWORKS
from pipeline.core import files


def _known(key: str) -> str:
    if key not in NETWORKS:
        raise ValueError(f"must be a network of models/: {', '.join(NETWORKS)}")
    return key


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Device = Literal["auto", "cpu", "cuda"]
Key = Annotated[str, AfterValidator(_known)]


class Section(BaseModel):
    """A section of params.yaml: unknown keys and loosely typed values are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Recipe(Section):
    """How a network is trained."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=2)  # batch normalization needs two images
    lr: Positive
    seed: int = Field(ge=0, lt=2**63)
    device: Device
    optimizer: str = "SGD"
    optimizer_options: dict[str, Any] = {}
    schedule: str | None = None
    schedule_options: dict[str, Any] = {}
    validation_images: int = Field(ge=0, default=0)
    threads: int = Field(ge=1, le=256, default=1)


class TrainParams(Recipe):
    """How the networks are trained; `networks` has the recipes of those that have their own."""

    networks: dict[Key, Recipe] = {}

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, section: Any) -> Any:
        """Add to each network's own values those that all share."""
        networks = section.get("networks") if isinstance(section, dict) else None
        if not isinstance(networks, dict):
            return section
        shared = {name: value for name, value in section.items() if name != "networks"}
        complete = {
            key: shared | own if isinstance(own, dict) else own for key, own in networks.items()
        }
        return section | {"networks": complete}


def own_params(key: str, train: dict[str, Any]) -> dict[str, Any]:
    """Return a network's recipe, given the section `train` as a dict."""
    shared = {name: value for name, value in train.items() if name != "networks"}
    return shared | train.get("networks", {}).get(key, {})


class ExportParams(Section):
    """Which of the exported networks is deployed: promoted, and traced."""

    network: Key

    @property
    def model(self) -> Path:
        """The path of the deployed network's ONNX file."""
        return files.model_path(self.network)


class CertifyParams(Section):
    """How far an exported network may differ from PyTorch."""

    max_abs_difference: Positive
    request_size: int = Field(ge=1, le=1024)  # the server's MAX_ROWS


class PromoteParams(Section):
    """What a model must achieve to become the champion."""

    min_test_accuracy: float = Field(ge=0, le=1)
    margin: float = Field(gt=0, lt=1)


class AdaptParams(Section):
    """When re-estimated statistics replace those of a served network."""

    rows: int = Field(ge=64)
    judge: Key
    min_agreement: float = Field(ge=0, le=1)
    unattended: bool
    cooldown_s: int = Field(ge=0)
    wait_s: int = Field(ge=1)


class StudyParams(Section):
    """How much the study trains: more seeds give narrower intervals."""

    seeds: int = Field(ge=2, le=1000)  # a single seed has no interval
    images: int = Field(ge=64, multiple_of=32)  # no batch of a single image
    epochs: int = Field(ge=1)
    rates_epochs: int = Field(ge=1)
    scale_epochs: int = Field(ge=1)
    overfitting_epochs: int = Field(ge=1)
    device: Device


class TrackingParams(Section):
    """The names in MLflow."""

    experiment: str = Field(min_length=1, max_length=250)
    registered_model: str = Field(pattern=r"^\w[\w .-]*$", max_length=250)  # no / or : in MLflow

    @property
    def study_experiment(self) -> str:
        """The name of the study's experiment."""
        return f"{self.experiment}-study"

    @property
    def adapt_experiment(self) -> str:
        """The name of the experiment of adaptations."""
        return f"{self.experiment}-adapt"


class Params(Section):
    """All of params.yaml."""

    train: TrainParams
    export: ExportParams
    certify: CertifyParams
    promote: PromoteParams
    adapt: AdaptParams
    study: StudyParams
    tracking: TrackingParams


@cache
def load_params(path: Path = files.ROOT / "params.yaml") -> Params:
    """Read and check the whole file, once per process: a stage must not see two versions of it.

    Raises:
        ValueError: the file is missing or not YAML, or a parameter is unknown, missing or invalid;
            the message gives its name, what is allowed and its value.
    """
    try:
        return Params.model_validate(YAML(typ="safe").load(path))
    except FileNotFoundError as error:
        raise ValueError(f"{path} not found: restore it with `git checkout params.yaml`") from error
    except YAMLError as error:
        raise ValueError(f"{path.name} is not valid YAML: {error}") from error
    except ValidationError as error:
        raise ValueError("\n".join(_describe(detail) for detail in error.errors())) from error


def _describe(detail: ErrorDetails) -> str:
    name = ".".join(str(part) for part in detail["loc"] if part != "[key]") or "params.yaml"
    problem = {
        "extra_forbidden": "is not a known parameter: remove it or correct its name",
        "missing": "is missing: add it to params.yaml",
    }.get(detail["type"])
    if problem:
        return f"{name} {problem}"
    allowed = re.sub("^(Input|String) should|^Value error, must", "must", detail["msg"])
    # A few lines of YAML with aliases can stand for gigabytes.
    return f"{name} {allowed}, got {reprlib.repr(detail['input']):.100}"
