"""The links between a model and what it came from, each with its check.

A check takes the subject and returns what it found in a sentence, or raises `GapError`.
"""

import hashlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from mlflow.entities import Run
from ruamel.yaml import YAML

from pipeline.core import files
from pipeline.core.params import TrainParams
from pipeline.core.provenance import git, params_sha256
from pipeline.data.dataset import DATA, DIGESTS, RAW, pinned_md5
from pipeline.promote.cards import DATA_CARD, MODEL_CARD, cards, digest_tag
from pipeline.trace.subject import Subject, read_metadata
from pipeline.tracking.registry import registered_name
from pipeline.tracking.store import download

Check = Callable[[Subject], str]


class GapError(Exception):
    """A link that does not hold: `unchecked` (its bytes are not here), `missing` or `broken`."""

    def __init__(self, state: str, message: str) -> None:
        super().__init__(message)
        self.state = state


def check_model(subject: Subject) -> str:
    """The bytes are those that were registered."""
    if subject.model is None:
        raise GapError("missing", "the registry has lost its file")
    found, expected = files.sha256(subject.model), subject.tag("model.sha256")
    if not read_metadata(subject.model):
        raise GapError("broken", f"SHA-256 {found}: it is not a model that export wrote")
    if not expected:
        raise GapError("missing", f"SHA-256 {found} is not in the registry: run `dvc repro`")
    if found != expected:
        raise GapError("broken", f"SHA-256 is {found}, was {expected} when it was registered")
    return f"SHA-256 {found}"


def check_version(subject: Subject) -> str:
    """The registry holds the bytes that were registered."""
    if not subject.version:
        raise GapError("missing", "it is not registered: run `dvc repro`")
    name = f"{registered_name()} version {subject.version.version}"
    if subject.registered is None:
        raise GapError("missing", f"{name} has lost its file")
    if files.sha256(subject.registered) != subject.tag("model.sha256"):
        raise GapError("broken", f"{name} holds other bytes than were registered")
    tags = subject.version.tags
    if tags.get("registered.git.dirty") != "false":
        raise GapError("unchecked", f"{name}, registered from a tree with uncommitted changes")
    return f"{name}, registered at {tags.get('registered.git.commit')}"


def check_certificate(subject: Subject) -> str:
    """It is the one that was registered, of this model, and passed."""
    content = certificate_of(subject)
    if content is None:
        raise GapError("missing", "neither artifacts/ nor MLflow has it: run `dvc repro`")
    found, expected = files.sha256(content), subject.tag("certificate.sha256")
    if found != expected:
        raise GapError("broken", f"SHA-256 is {found}, was {expected} when it was registered")
    certificate = json.loads(content)
    if certificate["model.sha256"] != subject.tag("model.sha256"):
        raise GapError("broken", "it is another model's")
    if not certificate["passed"]:
        raise GapError("broken", "it did not pass")
    return f"passed on {certificate['images']:,} images, SHA-256 {found}"


def certificate_of(subject: Subject) -> bytes | None:
    """Return the certificate in artifacts/ if the model is the one there, or else MLflow's."""
    if subject.here:
        return files.CERTIFICATE.read_bytes() if files.CERTIFICATE.is_file() else None
    return download(subject.version.source, files.CERTIFICATE.name) if subject.version else None


def check_card(name: str, subject: Subject) -> str:
    """It is what `promote` writes from the certificate, the run and the version's tags."""
    content = download(subject.version.source, name) if subject.version else None
    if content is None:
        raise GapError(
            "missing", "MLflow does not have it: `dvc repro` adds it for the model in artifacts/"
        )
    found, expected = files.sha256(content), subject.tag(digest_tag(name))
    if content == cards_again(subject).get(name):
        return f"SHA-256 {found}, and the same when written again"
    if found != expected:
        raise GapError("broken", f"SHA-256 is {found}, was {expected} when it was added")
    raise GapError(
        "unchecked", f"SHA-256 {found}, as it was added, but `promote` would now write another"
    )


def cards_again(subject: Subject) -> dict[str, bytes]:
    """Return the cards as `promote` would write them, or none if a value they have is lost."""
    certificate = certificate_of(subject)
    if certificate is None or not (subject.run and subject.version):
        return {}
    if files.sha256(certificate) != subject.tag("certificate.sha256"):
        return {}
    try:
        return cards(certificate, subject.run, subject.version.tags)
    except KeyError:
        return {}


def check_weights(subject: Subject) -> str:
    """The weights are the run's, and those the model was made from."""
    assert subject.run
    expected = the_one(subject, "weights.sha256")
    path = files.weights_path(network_of(subject.run))
    if not path.is_file() or (files.sha256(path) != expected and not subject.here):
        raise GapError("unchecked", f"SHA-256 {expected}, not those in artifacts/")
    if files.sha256(path) != expected:
        raise GapError(
            "broken", f"{path} has SHA-256 {files.sha256(path)}, the run's has {expected}"
        )
    return f"SHA-256 {expected}"


def network_of(run: Run) -> str:
    """Return the network that a run is named by; the name of a DVC experiment may follow."""
    return str(run.info.run_name).partition(" ")[0]


def check_run(subject: Subject) -> str:
    """It finished."""
    assert subject.run
    info = subject.run.info
    if info.status != "FINISHED":
        raise GapError("broken", f"{info.run_id} is {info.status}")
    started = datetime.fromtimestamp(info.start_time / 1000, UTC)
    restored = "restored.from.files" in subject.run.data.tags
    later = ", recorded later from the files" if restored else ""
    return f"{info.run_name} {info.run_id}, started {started:%Y-%m-%d %H:%M:%S} UTC{later}"


def check_parameters(subject: Subject) -> str:
    """The run's parameters have the hash that run, version and model are tagged with."""
    assert subject.run
    params = {n: value for n, value in subject.run.data.params.items() if n != "network"}
    if the_one(subject, "params.sha256") != params_sha256(params):
        raise GapError("broken", f"the run has {params}, not what the weights were trained with")
    network = subject.run.data.params.get("network")
    if network != network_of(subject.run):
        raise GapError("broken", f"the run {subject.run.info.run_name} has the network {network!r}")
    return ", ".join(f"{name} {value}" for name, value in sorted(params.items()))


def check_metrics(subject: Subject) -> str:
    """The run's metrics have the hash that run and version are tagged with."""
    assert subject.run
    if the_one(subject, "metrics.sha256") != subject.metrics:
        raise GapError("broken", "the run's metrics are not those that were recorded")
    last = subject.run.data.metrics
    return f"test accuracy {last['test_accuracy']:.2%}, training loss {last['train_loss']:.4f}"


def check_commit(subject: Subject) -> str:
    """It is in this repository, and its params.yaml has the run's parameters."""
    commit, dirty = the_one(subject, "git.commit"), the_one(subject, "git.dirty")
    if not re.fullmatch("[0-9a-f]{40}", commit):
        raise GapError("broken", f"{commit!r} is not a commit")
    try:
        title = git("log", "-1", "--format=%s", f"{commit}^{{commit}}")
        text = git("show", f"{commit}:params.yaml")
    except ValueError as error:
        raise GapError("missing", f"{commit!r} is not in this repository") from error
    if dirty != "false":
        raise GapError("unchecked", f"{commit}, dirty: with changes that were not committed")
    params = TrainParams.model_validate(YAML(typ="safe").load(text)["train"]).model_dump()
    if subject.claims("params.sha256") != {params_sha256(params)}:
        raise GapError("broken", f"the params.yaml of {commit} has other parameters")
    return f"{commit}, clean: {title}"


def check_data(subject: Subject) -> str:
    """The run and the model were made from the data set that the pipeline loads."""
    found, claimed = pinned_md5(), the_one(subject, "data.md5")
    if claimed != found:
        raise GapError("broken", f"MD5 {found}, but the run and the model have {claimed}")
    return f"MD5 {found}, of these files:"


def the_one(subject: Subject, tag: str) -> str:
    """Return the value on which run, version and model agree.

    Raises:
        GapError: there is no such tag, or they disagree.
    """
    values = subject.claims(tag)
    if None in values:
        raise GapError("missing", f"there is no tag {tag}: delete the run and run `dvc repro`")
    if len(values) > 1:
        raise GapError("broken", f"run, version and model disagree on {tag}: {values}")
    return str(*values)


def check_file(name: str, _subject: Subject) -> str:
    """Its bytes are the data set's."""
    path, md5 = DATA / RAW / name, DIGESTS[name]
    if not path.is_file():
        raise GapError("missing", f"{path} not found: run `make data`")
    found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if found != md5:
        raise GapError("broken", f"{path} has MD5 {found}, must be {md5}")
    return f"MD5 {md5}"


# In the order of the walk. Those of a model come first; a run without a model has only the rest.
MODEL_CHECKS: dict[str, Check] = {
    "model": check_model,
    "version": check_version,
    "certificate": check_certificate,
    "model card": partial(check_card, MODEL_CARD),
    "data card": partial(check_card, DATA_CARD),
}
RUN_CHECKS: dict[str, Check] = {
    "weights": check_weights,
    "run": check_run,
    "parameters": check_parameters,
    "metrics": check_metrics,
    "commit": check_commit,
    "data": check_data,
    **{name: partial(check_file, name) for name in DIGESTS},
}
