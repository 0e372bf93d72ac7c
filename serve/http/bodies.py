"""Reads request bodies, within limits of size, time and memory."""

import asyncio
import time

from starlette.exceptions import HTTPException
from starlette.types import Receive

Headers = list[tuple[bytes, bytes]]

MAX_BODY_BYTES = 4 * 2**20  # also once it is decompressed
MAX_WAITING_BYTES = 20 * 2**20  # per process, which grows by less than 64 MiB
SMALL_BYTES = 16 * 2**10  # of a connection, which are always allowed


class Budget:
    """The memory for all that waits: requests that are being sent or run, and unread responses.

    left: bytes; who takes some gives them back.
    """

    def __init__(self) -> None:
        self.left = MAX_WAITING_BYTES

    def check(self, size: int) -> None:
        """Raise HTTPException (503) unless so many bytes are left or it is small."""
        if size > SMALL_BYTES and size > self.left:
            raise HTTPException(503, "too much is waiting: try again in a second")


class Reader:
    """Reads request bodies within a time limit.

    The owner must call `cancel_slow` periodically: a timer per request costs ten times as much.
    """

    def __init__(self, budget: Budget, timeout_s: float = 10.0) -> None:
        self._budget = budget
        self._timeout_s = timeout_s
        self._since: dict[asyncio.Task[object], float] = {}  # start of each task's read

    async def read(self, receive: Receive, limit: int = MAX_BODY_BYTES) -> bytes:
        """Return the complete body, of at most `limit` bytes.

        Raises:
            HTTPException: the body is too large (413), too slow (408) or incomplete (400), or too
                much is waiting (503).
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
                self._budget.check(len(piece))
                pieces.append(piece)
                size += len(piece)
                self._budget.left -= len(piece)
        except asyncio.CancelledError as error:
            late = f"the body did not arrive within {self._timeout_s} s"
            raise HTTPException(408, late) from error
        finally:
            self._budget.left += size
            del self._since[task]

    def cancel_slow(self) -> None:
        """Cancel the reads that exceed the time limit."""
        latest = time.monotonic() - self._timeout_s
        for task, since in self._since.items():
            if since < latest:
                task.cancel()
