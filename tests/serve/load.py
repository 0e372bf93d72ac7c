"""Several models in one server, requests to them, and clients that send these without a pause."""

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import onnx

from tests.serve.bad_models import with_metadata
from tests.serve.process import http_request


class Served(NamedTuple):
    """A model's file, and a request to it."""

    name: str
    path: Path
    body: bytes
    headers: dict[str, str]

    @property
    def infer(self) -> str:
        return f"/v2/models/{self.name}/infer"

    def request(self) -> bytes:
        """The request as it goes over the wire."""
        return http_request("POST", self.infer, self.body, **self.headers)

    def status(self, address: str) -> int:
        """The status of the response to the request over a connection of its own."""
        return httpx.post(address + self.infer, content=self.body, headers=self.headers).status_code

    def revision(self, number: int = 2) -> bytes:
        """The content of a file of the same model that has another version."""
        model = onnx.load(self.path)
        with_metadata(revision=str(number))(model)
        return model.SerializeToString()


class Load:
    """What clients have seen so far, by the model's name."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.versions: dict[str, set[str]] = defaultdict(set)


@contextmanager
def load(address: str, models: list[Served], clients: int = 4) -> Iterator[Load]:
    """Request inference of each model from several threads for the duration of the block."""
    seen, done = Load(), threading.Event()

    def infer(model: Served) -> None:
        with httpx.Client(base_url=address, headers=model.headers) as client:
            while not done.is_set():
                response = client.post(model.infer, content=model.body)
                seen.statuses[response.status_code] += 1
                seen.versions[model.name].add(response.json().get("model_version", ""))

    threads = [threading.Thread(target=infer, args=[model]) for model in models * clients]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        done.set()
        for thread in threads:
            thread.join()


def versions(address: str) -> dict[str, str]:
    """The version of each model that a new connection sees."""
    index = httpx.post(f"{address}/v2/repository/index").json()
    return {model["name"]: model["version"] for model in index}
