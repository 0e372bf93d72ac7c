"""The links from a training back to the data: its weights, run, parameters, metrics, commit, files.

A check takes the subject and returns what it found in a sentence, or raises `GapError`.
"""

import re
from datetime import UTC, datetime
from functools import partial

from mlflow.entities import Run
from pydantic import ValidationError

from pipeline.core import files
from pipeline.core.params import own_params
from pipeline.core.provenance import Provenance, git
from pipeline.data.dataset import DATA, DIGESTS, RAW, pinned_md5
from pipeline.data.load import read_file
from pipeline.trace.subject import Check, GapError, Subject


def check_weights(subject: Subject) -> str:
    """The weights are the run's, and those the model was made from."""
    assert subject.run
    expected = the_one(subject, "weights.sha256")
    path = files.weights_path(network_of(subject.run))
    if not path.is_file() or (files.sha256(path) != expected and not subject.here):
        raise GapError("unchecked", f"SHA-256 {expected}, not those in artifacts/")
    if files.sha256(path) != expected:
        raise GapError("broken", f"{path} has SHA-256 {files.sha256(path)}, not {expected}")
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
    made = "restored" if "restored.from.files" in subject.run.data.tags else "started"
    return f"{info.run_name} {info.run_id}, {made} {started:%Y-%m-%d %H:%M:%S} UTC"


def check_parameters(subject: Subject) -> str:
    """The run's parameters have the hash that run, version and model are tagged with."""
    assert subject.run
    params = {n: value for n, value in subject.run.data.params.items() if n != "network"}
    network = network_of(subject.run)
    own = own_params(network, provenance_of(subject).params)
    if params != {name: str(value) for name, value in own.items()}:
        raise GapError("broken", f"the run has {params}, not what the weights were trained with")
    found = subject.run.data.params.get("network")
    if found != network:
        raise GapError("broken", f"the run {subject.run.info.run_name} has the network {found!r}")
    return ", ".join(f"{name} {value}" for name, value in sorted(params.items()))


def check_metrics(subject: Subject) -> str:
    """The run's metrics have the hash that run and version are tagged with."""
    assert subject.run
    if the_one(subject, "metrics.sha256") != subject.metrics:
        raise GapError("broken", "the run's metrics are not those that were recorded")
    last = subject.run.data.metrics
    return f"test accuracy {last['test_accuracy']:.2%}, training loss {last['train_loss']:.4f}"


def check_commit(subject: Subject) -> str:
    """It is in this repository, and has the code and the parameters of the training."""
    commit, dirty = the_one(subject, "git.commit"), the_one(subject, "git.dirty")
    if not re.fullmatch("[0-9a-f]{40}", commit):
        raise GapError("broken", f"{commit!r} is not a commit")
    try:
        title = git("log", "-1", "--format=%s", f"{commit}^{{commit}}")
    except ValueError as error:
        raise GapError("missing", f"{commit!r} is not in this repository") from error
    if provenance_of(subject).is_at(commit):
        return f"{commit}, clean: {title}"
    if dirty != "false":
        raise GapError("unchecked", f"{commit}, dirty: with changes that were not committed")
    raise GapError("broken", f"{commit} has other code or parameters than the training had")


def provenance_of(subject: Subject) -> Provenance:
    """Return the provenance that the run is tagged with.

    Raises:
        GapError: it is not what the stage wrote, or does not have the hash of the parameters that
            run, version and model are tagged with.
    """
    try:
        provenance = Provenance.model_validate_json(the_one(subject, "provenance"))
    except ValidationError as error:
        raise GapError("broken", "the tag provenance is not what the stage wrote") from error
    if provenance.content_tags()["params.sha256"] != the_one(subject, "params.sha256"):
        raise GapError("broken", "the tag provenance has other parameters than the run")
    return provenance


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
    path = DATA / RAW / name
    if not path.is_file():
        raise GapError("missing", f"{path} not found: run `make data`")
    try:
        read_file(path)
    except ValueError as error:
        raise GapError("broken", str(error)) from error
    return f"MD5 {DIGESTS[name]}"


RUN_CHECKS: dict[str, Check] = {
    "weights": check_weights,
    "run": check_run,
    "parameters": check_parameters,
    "metrics": check_metrics,
    "commit": check_commit,
    "data": check_data,
    **{name: partial(check_file, name) for name in DIGESTS},
}
