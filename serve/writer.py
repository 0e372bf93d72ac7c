"""Sends responses within a limit on what their clients have yet to read."""

from serve.reader import Headers, HTTPError, Send

SMALL_BYTES = 64 * 2**10  # uvicorn buffers as much per connection without waiting
MAX_BYTES = 32 * 2**20  # of all larger bodies that are being sent


class Writer:
    """Sends responses, and counts the bytes of the large ones until their clients read them."""

    def __init__(self) -> None:
        self._bytes = 0

    def check(self, size: int) -> None:
        """Check that a body of this size may be sent now.

        Raises:
            HTTPError: it is large, and other large ones are still being sent (503).
        """
        if size > SMALL_BYTES and self._bytes and self._bytes + size > MAX_BYTES:
            raise HTTPError(503, "too many responses are unread: try again in a second")

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
