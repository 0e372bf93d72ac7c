"""Reads request bodies within limits of size and time."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]  # an ASGI scope or event
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

MAX_BODY_BYTES = 4 * 2**20  # also once it is decompressed
MAX_BYTES = 3 * MAX_BODY_BYTES  # of all bodies that are being read


class HTTPError(Exception):
    """An error response: its HTTP status and a message for the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Reader:
    """Reads request bodies within a time limit.

    The owner must call `cancel_slow` periodically: a timer per request costs ten times as much.
    """

    def __init__(self, timeout_s: float = 10.0) -> None:
        self._timeout_s = timeout_s
        self._since: dict[asyncio.Task[object], float] = {}  # start of each task's read
        self._bytes = 0

    async def read(self, receive: Receive, limit: int = MAX_BODY_BYTES) -> bytes:
        """Return the complete body, of at most `limit` bytes.

        Raises:
            HTTPError: the body is too large (413), too slow (408) or incomplete (400), or too many
                are being read (503).
        """
        task = asyncio.current_task()
        assert task
        self._since[task] = time.monotonic()
        pieces: list[bytes] = []  # all but the last
        size = 0
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise HTTPError(400, "the client disconnected")
                piece = message["body"]
                if size + len(piece) > limit:
                    raise HTTPError(413, f"the body exceeds {limit} bytes: send less")
                if not message["more_body"]:  # even if others send too much
                    return b"".join([*pieces, piece])
                pieces.append(piece)
                size += len(piece)
                self._bytes += len(piece)
                if self._bytes > MAX_BYTES:
                    raise HTTPError(503, "too many requests are sending: try again in a second")
        except asyncio.CancelledError as error:
            raise HTTPError(408, f"the body did not arrive within {self._timeout_s} s") from error
        finally:
            self._bytes -= size
            del self._since[task]

    def cancel_slow(self) -> None:
        """Cancel the reads that exceed the time limit."""
        latest = time.monotonic() - self._timeout_s
        for task, since in self._since.items():
            if since < latest:
                task.cancel()
