"""The links between a model and what it came from, each with the check that it holds.

A check takes what is known of the model and returns a sentence, or raises `GapError`.
"""

import hashlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from ruamel.yaml import YAML

from pipeline.artifacts import CERTIFICATE, sha256, weights_path
from pipeline.data import DATA, DIGESTS, RAW
from pipeline.lineage import Subject, digest, fetch, read_metadata
from pipeline.params import TrainParams
from pipeline.provenance import git, params_sha256

Check = Callable[[Subject], str]


class GapError(Exception):
    """A link that does not hold: `unchecked` (its bytes are not here), `missing` or `broken`."""

    def __init__(self, state: str, message: str) -> None:
        super().__init__(message)
        self.state = state


def check_model(subject: Subject) -> str:
    """The bytes are those that were registered."""
    if subject.model is None:
        raise GapError("missing", "the registry has no file of it any more")
    found, expected = digest(subject.model), subject.tag("model.sha256")
    if not read_metadata(subject.model):
        raise GapError("broken", f"SHA-256 {found}: it is no model that export wrote")
    if not expected:
        raise GapError("missing", f"SHA-256 {found} is not in the registry: run `dvc repro`")
    if found != expected:
        raise GapError("broken", f"SHA-256 is {found}, was {expected} when it was registered")
    return f"SHA-256 {found}"


def check_version(subject: Subject) -> str:
    """The registry holds the bytes that were registered."""
    if not subject.version:
        raise GapError("missing", "it is not registered: run `dvc repro`")
    name = f"mnist-batchnorm version {subject.version.version}"
    if subject.registered is None:
        raise GapError("missing", f"{name} has lost its file")
    if digest(subject.registered) != subject.tag("model.sha256"):
        raise GapError("broken", f"{name} holds other bytes than were registered")
    tags = subject.version.tags
    if tags.get("registered.git.dirty") != "false":
        raise GapError("unchecked", f"{name}, registered from a tree with uncommitted changes")
    return f"{name}, registered at {tags.get('registered.git.commit')}"


def check_certificate(subject: Subject) -> str:
    """It is the one that was registered, about this model and these weights, and passed."""
    if subject.here:
        content = CERTIFICATE.read_bytes() if CERTIFICATE.is_file() else None
    else:
        content = fetch(subject.version.source, CERTIFICATE.name) if subject.version else None
    if content is None:
        raise GapError("missing", "neither artifacts/ nor MLflow has it: run `dvc repro`")
    found, expected = digest(content), subject.tag("certificate.sha256")
    if found != expected:
        raise GapError("broken", f"SHA-256 is {found}, was {expected} when it was registered")
    certificate = json.loads(content)
    if certificate["model_sha256"] != subject.tag("model.sha256"):
        raise GapError("broken", "it is another model's")
    if not certificate["passed"]:
        raise GapError("broken", "it did not pass")
    return f"passed on {certificate['images']:,} images, SHA-256 {found}"


def check_weights(subject: Subject) -> str:
    """The model says it is made of the weights that the run made."""
    expected = subject.run.data.tags.get("weights.sha256")
    claimed = subject.said("weights.sha256") | {subject.metadata().get("weights_sha256", expected)}
    if claimed != {expected}:
        raise GapError("broken", f"the run is of {expected}, but it is also said to be {claimed}")
    path = weights_path(subject.run.info.run_name)
    if not path.is_file() or (sha256(path) != expected and not subject.here):
        raise GapError("unchecked", f"SHA-256 {expected}, not those in artifacts/")
    if sha256(path) != expected:
        raise GapError("broken", f"{path} has SHA-256 {sha256(path)}, the run's has {expected}")
    return f"SHA-256 {expected}"


def check_run(subject: Subject) -> str:
    """It is there, and whole."""
    info = subject.run.info
    if info.status != "FINISHED":
        raise GapError("broken", f"{info.run_id} is {info.status}")
    began = datetime.fromtimestamp(info.start_time / 1000, UTC)
    restored = "restored.from.files" in subject.run.data.tags
    again = ", recorded later from the files" if restored else ""
    return f"{info.run_name} {info.run_id}, began {began:%Y-%m-%d %H:%M:%S} UTC{again}"


def check_parameters(subject: Subject) -> str:
    """They are those whose hash the model and the run bear."""
    params = {n: value for n, value in subject.run.data.params.items() if n != "network"}
    found = params_sha256(params)
    if "params.sha256" not in subject.run.data.tags:
        raise GapError("missing", "the run lacks its lineage: delete it and run `dvc repro`")
    claimed = subject.said("params.sha256")
    if claimed | {subject.metadata().get("train_params_sha256", found)} != {found}:
        raise GapError("broken", f"the run has {params}, not what the weights were trained with")
    return ", ".join(f"{name} {value}" for name, value in sorted(params.items()))


def check_commit(subject: Subject) -> str:
    """It is in this repository, and its params.yaml gives the run's parameters."""
    commit = _the_one(subject, "git.commit")
    dirty = _the_one(subject, "git.dirty")
    if not re.fullmatch("[0-9a-f]{40}", commit):
        raise GapError("broken", f"{commit!r} is no commit")
    try:
        title = git("log", "-1", "--format=%s", f"{commit}^{{commit}}")
        text = git("show", f"{commit}:params.yaml")
    except ValueError as error:
        raise GapError("missing", f"{commit!r} is not in this repository") from error
    if dirty != "false":
        raise GapError("unchecked", f"{commit}, dirty: with changes that were not committed")
    params = TrainParams.model_validate(YAML(typ="safe").load(text)["train"]).model_dump()
    if subject.said("params.sha256") != {params_sha256(params)}:
        raise GapError("broken", f"the params.yaml of {commit} has other parameters")
    return f"{commit}, clean: {title}"


def _the_one(subject: Subject, tag: str) -> str:
    values = subject.said(tag)
    if None in values:
        raise GapError("missing", f"there is no tag {tag}")
    if len(values) > 1:
        raise GapError("broken", f"run and version do not agree on {tag}: {values}")
    return str(*values)


def check_data(subject: Subject) -> str:
    """The four files that data.py asks for are those that the run and the model were made of."""
    listing = [{"md5": md5, "relpath": str(RAW / name)} for name, md5 in DIGESTS.items()]
    listing.sort(key=lambda entry: entry["relpath"])
    text = json.dumps(listing, sort_keys=True).encode()
    found = hashlib.md5(text, usedforsecurity=False).hexdigest() + ".dir"  # as DVC reckons it
    claimed = subject.said("data.md5") | {subject.metadata().get("data_md5", found)}
    if claimed != {found}:
        raise GapError("broken", f"MD5 {found}, but the run and the model say {claimed}")
    return f"MD5 {found}, of these files:"


def check_file(name: str, _subject: Subject) -> str:
    """Its bytes are MNIST's."""
    path, md5 = DATA / RAW / name, DIGESTS[name]
    if not path.is_file():
        raise GapError("missing", f"{path} not found: run `python -m pipeline.data`")
    found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if found != md5:
        raise GapError("broken", f"{path} has MD5 {found}, must be {md5}")
    return f"MD5 {md5}"


# In the order of the walk. Those of a model come first; a run without one has only the rest.
MODEL_CHECKS: dict[str, Check] = {
    "model": check_model,
    "version": check_version,
    "certificate": check_certificate,
}
RUN_CHECKS: dict[str, Check] = {
    "weights": check_weights,
    "run": check_run,
    "parameters": check_parameters,
    "commit": check_commit,
    "data": check_data,
    **{name: partial(check_file, name) for name in DIGESTS},
}
