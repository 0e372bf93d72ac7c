"""Reads request bodies and sends responses, within limits of size and time."""

import asyncio
import time

from starlette.exceptions import HTTPException
from starlette.types import Receive, Send

Headers = list[tuple[bytes, bytes]]

MAX_BODY_BYTES = 4 * 2**20  # also once it is decompressed
MAX_READ_BYTES = 3 * MAX_BODY_BYTES  # of all bodies that are being read
SMALL_BYTES = 64 * 2**10  # uvicorn buffers as much per connection without waiting
MAX_UNREAD_BYTES = 32 * 2**20  # of all larger responses that are being sent


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
            HTTPException: the body is too large (413), too slow (408) or incomplete (400), or too
                many are being read (503).
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
                    raise HTTPException(400, "the client disconnected")
                piece = message["body"]
                if size + len(piece) > limit:
                    raise HTTPException(413, f"the body exceeds {limit} bytes: send less")
                if not message["more_body"]:  # even if others send too much
                    return b"".join([*pieces, piece])
                pieces.append(piece)
                size += len(piece)
                self._bytes += len(piece)
                if self._bytes > MAX_READ_BYTES:
                    raise HTTPException(503, "too many requests are sending: try again in a second")
        except asyncio.CancelledError as error:
            late = f"the body did not arrive within {self._timeout_s} s"
            raise HTTPException(408, late) from error
        finally:
            self._bytes -= size
            del self._since[task]

    def cancel_slow(self) -> None:
        """Cancel the reads that exceed the time limit."""
        latest = time.monotonic() - self._timeout_s
        for task, since in self._since.items():
            if since < latest:
                task.cancel()


class Writer:
    """Sends responses, and counts the bytes of the large ones until their clients read them."""

    def __init__(self) -> None:
        self._bytes = 0

    def check(self, size: int) -> None:
        """Check that a body of this size may be sent now.

        Raises:
            HTTPException: it is large, and other large ones are still being sent (503).
        """
        if size > SMALL_BYTES and self._bytes and self._bytes + size > MAX_UNREAD_BYTES:
            raise HTTPException(503, "too many responses are unread: try again in a second")

    async def write(self, status: int, headers: Headers, body: bytes, send: Send) -> None:
        """Send a response; return once its client has read all but what uvicorn buffers."""
        large = len(body) > SMALL_BYTES
        size = len(body) if large else 0
        self._bytes += size
        try:
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body, "more_body": large})
            if large:
                await send({"type": "http.response.body", "body": b""})  # waits for the client
        finally:
            self._bytes -= size
