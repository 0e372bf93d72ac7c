"""Reads a request's body and what its headers say of it, within limits of size and time."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]  # ASGI's
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

MAX_BODY_BYTES = 4 * 2**20  # the most images of a request, as JSON


class HTTPError(Exception):
    """An answer other than 200: its status and one sentence for whoever asked."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def json_length(headers: Headers) -> int | None:
    """Return the length of the JSON before raw tensors, None if the body is all JSON."""
    length = None
    for name, value in headers:
        if name == b"inference-header-content-length":
            if not value.isdigit() or len(value) > 18:
                raise HTTPError(400, "Inference-Header-Content-Length must be a whole number")
            length = int(value)
        elif name == b"content-encoding" and value != b"identity":
            raise HTTPError(400, "compressed bodies are not read: send them as they are")
    return length


class Reader:
    """Reads bodies within a time limit, kept for all at once: a timer for each is ten times dearer.

    Its owner calls `cancel_slow` now and then.
    """

    def __init__(self, timeout_s: float = 10.0) -> None:
        self._timeout_s = timeout_s
        self._since: dict[asyncio.Task, float] = {}  # who reads, and since when

    async def read(self, receive: Receive) -> bytes:
        """Return the whole body.

        Raises:
            HTTPError: it is too large (413), comes too slowly (408) or breaks off (400).
        """
        task = asyncio.current_task()
        assert task
        self._since[task] = time.monotonic()
        pieces, size = [], 0
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise HTTPError(400, "the client has gone")
                pieces.append(message["body"])
                size += len(message["body"])
                if size > MAX_BODY_BYTES:
                    raise HTTPError(413, f"a body may have {MAX_BODY_BYTES} bytes: send less")
                if not message["more_body"]:
                    return b"".join(pieces)
        except asyncio.CancelledError as error:
            raise HTTPError(408, f"the body took more than {self._timeout_s} s") from error
        finally:
            del self._since[task]

    def cancel_slow(self) -> None:
        """Give up the bodies that take too long."""
        latest = time.monotonic() - self._timeout_s
        for task, since in self._since.items():
            if since < latest:
                task.cancel()
