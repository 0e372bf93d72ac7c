"""Reads what a server keeps of its traffic: the sample of served rows, and the last alarm."""

import json
import math
import time
from typing import NamedTuple

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from safetensors.numpy import load
from tqdm import tqdm

from pipeline.core import files
from pipeline.core.inference import connect, model_url
from pipeline.core.params import load_params
from pipeline.data.dataset import IMAGE_SHAPE

ALARM_TIME = "inference_drift_alarm_timestamp_seconds"


class Sample(NamedTuple):
    """Rows that a server answered.

    content: as the server sent them, in the format safetensors. version: of the model that answered
    them. images: (N, *IMAGE_SHAPE) uint8. predictions: (N,) int64, the classes it answered. labels:
    (N,) int64, -1 where none is known.
    """

    content: bytes
    version: str
    images: np.ndarray
    predictions: np.ndarray
    labels: np.ndarray

    @property
    def sha256(self) -> str:
        """The SHA-256 of the content."""
        return files.sha256(self.content)

    def halves(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows, (N // 2,) int64, to adapt to, and all others, to judge by: at random,
        but always the same for the same content."""
        rows = np.random.default_rng(int(self.sha256[:16], 16)).permutation(len(self.images))
        return rows[: len(rows) // 2], rows[len(rows) // 2 :]


def read_sample(content: bytes) -> Sample:
    """Return the sample that a server sent.

    Raises:
        ValueError: it is not a sample of images of the data set's shape.
    """
    try:
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")
        version = json.loads(content[8 : 8 + length])["__metadata__"]["version"]
        images, logits = tensors["inputs/images"], tensors["outputs/logits"]
        labels = tensors["label"].astype(np.int64)
    except Exception as error:  # safetensors has a type of its own
        raise ValueError(f"the server's sample cannot be read: {error!r:.200}") from error
    if images.dtype != np.uint8 or images.shape[1:] != IMAGE_SHAPE:
        raise ValueError(f"the sample has images {images.dtype} of shape {images.shape[1:]}")
    return Sample(content, version, images, logits.argmax(axis=1), labels)


def fetch_sample(url: str, digest: str) -> Sample:
    """Return the server's sample once it has `adapt.rows` rows, within `adapt.wait_s`.

    digest: the SHA-256 of the model that it must serve.

    Raises:
        ConnectionError: the server does not answer.
        ValueError: it serves another model, keeps no sample, or has too few rows in time.
    """
    params = load_params().adapt
    rows, wait_s = params.rows, params.wait_s
    end = time.monotonic() + wait_s
    print(f"waiting until {url} has sampled {rows} rows ...", flush=True)
    with tqdm(desc="rows", total=rows, disable=None) as bar:
        while True:
            sample = read_sample(request(url, "GET", f"{model_url()}/sample"))
            if not digest.startswith(sample.version):
                raise ValueError(
                    f"{url} serves version {sample.version}, which is not the champion: start it "
                    "with --model models:/NAME@champion --poll SECONDS, or wait for its next poll"
                )
            bar.update(len(sample.images) - bar.n)
            if len(sample.images) >= rows:
                return sample
            if time.monotonic() > end:
                raise ValueError(
                    f"{url} has sampled {len(sample.images)} rows in {wait_s} s, and adapt.rows = "
                    f"{rows}: run it again later, or with a larger --sample if that is smaller"
                )
            time.sleep(1)


def empty_sample(url: str) -> None:
    """Empty the server's sample, so that it is of what comes from now on.

    Raises:
        ConnectionError: the server does not answer.
        ValueError: it keeps no sample.
    """
    request(url, "DELETE", f"{model_url()}/sample")


def request(url: str, method: str, path: str) -> bytes:
    """Send a request to the server, and return the answer's body.

    Raises:
        ConnectionError: the server does not answer, or by an error.
        ValueError: it asks for its token, or has no such path.
    """
    try:
        with connect(url) as client:
            response = client.request(method, path)
            if response.status_code == 401:
                raise ValueError(f"{url} requires its token in SERVE_TOKEN")
            if response.status_code == 404:
                raise ValueError(f"{url}{path} is not there: {response.text:.200}")
            return response.raise_for_status().content
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ConnectionError(f"{url} failed: {error}") from error


def last_alarm(url: str) -> float | None:
    """Return when the served version last rang the alarm, in seconds since 1970, if ever."""
    text = request(url, "GET", "/metrics").decode(errors="replace")
    times = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == ALARM_TIME and sample.labels.get("model") == load_params().export.network
    ]
    rung = [seconds for seconds in times if not math.isnan(seconds)]
    return max(rung, default=None)
