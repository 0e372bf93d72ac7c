"""Reads request bodies, within limits of size and memory; connection.py limits the time."""

from starlette.exceptions import HTTPException
from starlette.types import Receive

Headers = list[tuple[bytes, bytes]]

MAX_BODY_BYTES = 4 * 2**20  # also once it is decompressed
MAX_WAITING_BYTES = 20 * 2**20  # per process, which grows by less than 64 MiB
TOO_MUCH = "too much is waiting: try again in a second"
SMALL_BYTES = 16 * 2**10  # of a connection, which are always allowed


class Budget:
    """The memory for all that waits: requests that are being sent or run, and unread responses.

    left: bytes; who takes some gives them back.
    """

    def __init__(self) -> None:
        self.left = MAX_WAITING_BYTES

    def check(self, size: int, taken: int = 0) -> None:
        """Raise HTTPException (503) unless so many bytes are left or, with those that were taken
        for the same, it is small."""
        if size + taken > SMALL_BYTES and size > self.left:
            raise HTTPException(503, TOO_MUCH)


async def read(receive: Receive, budget: Budget, limit: int = MAX_BODY_BYTES) -> bytes:
    """Return the complete body of a request, of at most `limit` bytes.

    Raises:
        HTTPException: the body is too large (413) or does not arrive (408), or too much is waiting
            (503).
    """
    pieces: list[bytes] = []  # all but the last
    size = 0
    try:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise HTTPException(408, "the body did not arrive")
            piece = message["body"]
            if size + len(piece) > limit:
                raise HTTPException(413, f"the body exceeds {limit} bytes: send less")
            if not message["more_body"]:  # even if others send too much
                return b"".join([*pieces, piece])
            budget.check(len(piece), taken=size)
            pieces.append(piece)
            size += len(piece)
            budget.left -= len(piece)
    finally:
        budget.left += size
