"""The links of a registered model: its file, version, certificate and cards.

A check takes the subject and returns what it found in a sentence, or raises `GapError`.
"""

import json
from functools import partial

from jinja2 import UndefinedError

from pipeline.core import files
from pipeline.promote.cards import DATA_CARD, MODEL_CARD, cards
from pipeline.trace.subject import Check, GapError, Subject, read_metadata
from pipeline.tracking.registry import digest_tag, registered_name
from pipeline.tracking.store import download


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
        raise GapError("missing", "MLflow does not have it: `dvc repro` adds it for artifacts/")
    found, expected = files.sha256(content), subject.tag(digest_tag(name))
    if content == cards_again(subject).get(name):
        return f"SHA-256 {found}, and the same when written again"
    if found != expected:
        raise GapError("broken", f"SHA-256 is {found}, was {expected} when it was added")
    raise GapError("unchecked", f"SHA-256 {found}, but `promote` would now write another")


def cards_again(subject: Subject) -> dict[str, bytes]:
    """Return the cards as `promote` would write them, or none if a value they have is lost."""
    certificate = certificate_of(subject)
    if certificate is None or not (subject.run and subject.version):
        return {}
    if files.sha256(certificate) != subject.tag("certificate.sha256"):
        return {}
    try:
        return cards(certificate, subject.run, subject.version.tags)
    except UndefinedError:
        return {}


MODEL_CHECKS: dict[str, Check] = {
    "model": check_model,
    "version": check_version,
    "certificate": check_certificate,
    "model card": partial(check_card, MODEL_CARD),
    "data card": partial(check_card, DATA_CARD),
}
