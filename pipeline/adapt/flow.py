"""The Prefect flow that adapts the champion to the requests of its server, if that is better.

It re-estimates the running statistics of the champion's trained weights on one half of the server's
sample, and judges the adapted network on the other half. What wins is exported, certified and
registered. MLflow has a run of it, with the sample, in any case.
"""

import time
from typing import Any

import numpy as np
import torch
from mlflow import MlflowClient
from prefect import State, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed
from torch import nn

from pipeline.adapt.ancestor import Ancestor, find_ancestor
from pipeline.adapt.candidate import adapt_network, build_adapted, certify_adapted
from pipeline.adapt.publish import give_alias, register_adapted
from pipeline.adapt.re_estimate import running_norms
from pipeline.adapt.traffic import Sample, fetch_sample
from pipeline.core import files
from pipeline.core.params import load_params
from pipeline.data.tensors import scale_pixels
from pipeline.promote.gate import CHAMPION, RE_ESTIMATED, TRAINED, Choice, choose
from pipeline.promote.roll_back import blocked
from pipeline.tracking import registry
from pipeline.tracking.adaptations import (
    NONE,
    adaptation_run,
    last_adaptation,
    may_run,
    record_sample,
    record_verdict,
)
from pipeline.tracking.store import open_store


@task(task_run_name="re-estimate", cache_policy=NO_CACHE)
def re_estimate(ancestor: Ancestor, sample: Sample) -> nn.Module:
    """Return the trained network with the statistics of one half of the sample."""
    return adapt_network(ancestor.network, sample)


@task(task_run_name="judge", cache_policy=NO_CACHE)
def judge(candidates: dict[str, nn.Module], ancestor: Ancestor, sample: Sample) -> Choice:
    """Return which candidate should answer in the champion's place, by the sample's other half."""
    _, rows = sample.halves()
    images = sample.images[rows]
    predictions = {name: predict(network, images) for name, network in candidates.items()}
    return choose(
        predictions,
        sample.predictions[rows],
        predict(ancestor.judge, images),
        sample.labels[rows],
        load_params().adapt,
    )


@torch.inference_mode()
def predict(network: nn.Module, images: np.ndarray) -> np.ndarray:
    """Return the classes (N,) int64 that a network predicts for images (N, *IMAGE_SHAPE) uint8."""
    return np.asarray(network(scale_pixels(images)).argmax(dim=1))


@task(task_run_name="export and certify", cache_policy=NO_CACHE)
def certify(ancestor: Ancestor, network: nn.Module, sample: Sample) -> dict[str, Any]:
    """Write the adapted network's file, and return its certificate."""
    files.write_atomically(files.ADAPTED_MODEL, build_adapted(network, ancestor.version, sample))
    return certify_adapted(network, ancestor.version, sample)


@flow(name="adapt")
def adapt(url: str) -> State:
    """Adapt the champion; of two flows at once in this clone, only the first does."""
    asked = time.time()
    try:
        with files.locked("adapt"), open_store() as client:
            last = last_adaptation(client)
            if last and last.info.status == "FINISHED" and last.info.end_time / 1000 > asked:
                message = "another command has adapted the champion meanwhile"
            elif last and may_run(last):
                message = "another command adapts the champion"
            else:
                message = adapt_champion(client, url)
    except (OSError, ValueError) as error:
        return Failed(message=str(error))
    print(message)
    return Completed(message=message)


def adapt_champion(client: MlflowClient, url: str) -> str:
    """Adapt the champion that the server at the URL serves; return the verdict as sentences.

    Raises:
        ConnectionError: the server does not answer.
        ValueError: there is no champion, it has no running statistics, or the server serves another
            model or keeps no sample.
        FileNotFoundError: what the champion was trained to is lost.
    """
    params = load_params()
    champion = registry.find_alias(client, CHAMPION)
    if not champion:
        raise ValueError("there is no champion to adapt: run `make repro`")
    ancestor = find_ancestor(client, champion, params.export.network, params.adapt.judge)
    running_norms(ancestor.network)  # before rows are waited for
    if params.adapt.judge == params.export.network:
        raise ValueError(
            f"adapt.judge must be another network than export.network, got {params.adapt.judge}"
        )
    with adaptation_run(client, champion) as run_id:
        sample = fetch_sample(url, champion.tags["model.sha256"])
        record_sample(client, run_id, sample.content, sample.sha256)
        adapted = re_estimate(ancestor, sample)
        candidates = {RE_ESTIMATED: adapted}
        bad = blocked(registry.all_versions(client))
        trained = ancestor.version
        if champion.version != trained.version and trained.tags["model.sha256"] not in bad:
            candidates[TRAINED] = ancestor.network
        choice = judge(candidates, ancestor, sample)
        record_verdict(client, run_id, choice.candidate or NONE, choice.reason)
        if not choice.candidate:
            return f"version {champion.version} stays the champion: {choice.reason}"
        version = trained
        if choice.candidate == RE_ESTIMATED:
            certificate = certify(ancestor, adapted, sample)
            version = register_adapted(client, run_id, trained, certificate, sample)
        return f"{choice.reason}\n{give_alias(client, champion, version)}"
