"""One HTTP connection, within limits of memory, time and number: a subclass of uvicorn's.

uvicorn alone limits neither the headers nor the requests that a client sends ahead of the answers,
and waits forever for a client that stops halfway.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from http import HTTPStatus

from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from serve.http.bodies import SMALL_BYTES, TOO_MUCH, Budget
from serve.http.parser import Parser

MAX_HEAD_BYTES = 64 * 2**10  # the request line with the headers, or the trailers
MAX_HEADERS = 100
HEADER_BYTES = 200  # of memory for a header, besides its characters
MAX_AHEAD = 16  # requests that wait for the response to an earlier one of their connection
MAX_CONNECTIONS = 400  # per process
CLIENT_S = 10.0  # for a client to send the next request's head, a body, or to read a response


class Flow(FlowControl):
    """Flow control that reads more only once `parse` returns that all is parsed."""

    def __init__(self, transport: asyncio.Transport, parse: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._parse = parse

    def resume_reading(self) -> None:
        """Parse what has been read, and read more if the server needs it."""
        if self._parse():
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """A connection that refuses what exceeds a limit, and ends when its client is too slow."""

    parser: Parser

    def __init__(
        self,
        budget: Budget,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.parser = Parser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as in uvicorn
        self._forget_head()
        self._budget = budget
        self._held = 0  # bytes of the budget
        self._received = b""  # and not parsed
        self._heads: deque[int] = deque()  # bytes of the head of each request without a response
        self._head_bytes = 0  # parsed since the last head or piece of a body
        self._progress = self.loop.time()  # of the client: when it last let the server go on
        self._refused = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for a request, or refuse the connection if there are too many."""
        super().connection_made(transport)
        self.flow = Flow(transport, self._parse)
        transport.set_write_buffer_limits(SMALL_BYTES)
        if len(self.connections) > MAX_CONNECTIONS:
            self._refuse(503, f"more than {MAX_CONNECTIONS} connections: try again in a second")
        else:
            self._timer = self.loop.call_later(CLIENT_S, self._end_if_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the waiting requests: they and the connection refer to each other."""
        super().connection_lost(exc)
        self.pipeline.clear()
        self._received = b""
        self._budget.left += self._held
        self._held = 0
        if self._timer:
            self._timer.cancel()

    def _end_if_slow(self) -> None:
        last: RequestResponseCycle | None = self.cycle
        idle = last is None or last.response_complete
        sending = last is not None and last.more_body and not self.pipeline
        left = self._progress + CLIENT_S - self.loop.time()
        if left <= 0 and sending and not (idle or self._refused):
            self._refuse(408, f"the body did not arrive within {CLIENT_S:.0f} s")
        elif left <= 0 and (idle or sending or self.flow.write_paused):
            self.transport.abort()
            return
        self._timer = self.loop.call_later(max(left, 1), self._end_if_slow)

    def data_received(self, data: bytes) -> None:
        """Parse what is needed of what has arrived, unless the connection is about to end."""
        if self._refused:
            return
        self._received += data
        if not self._parse():
            self.flow.pause_reading()

    def _parse(self) -> bool:
        """Parse what was received until there is a request to answer or a piece of a body to take;
        return whether all is parsed and no request waits.

        The pieces are small, since what is parsed of them beyond that takes much more memory.
        """
        while self._received and self._needs_more():
            piece, self._received = self._received[:SMALL_BYTES], self._received[SMALL_BYTES:]
            self._head_bytes += len(piece)
            super().data_received(piece)
            if self._head_bytes > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
                self._refuse_head()
        if self._held or self._size() > SMALL_BYTES:
            self._hold()
        return not self._received and not self.pipeline

    def _needs_more(self) -> bool:
        """Return whether no request can be answered before more is parsed."""
        last: RequestResponseCycle | None = self.cycle
        if last is None or last.response_complete:
            return True
        return last.more_body and not last.body and not self.pipeline

    def _size(self) -> int:
        """Return how many bytes of requests wait in this connection, but for a piece of a body."""
        return len(self._received) + self._head_bytes + sum(self._heads)

    def _hold(self) -> None:
        """Take from the budget what waits in this connection, and end it if too much waits in all:
        with a 503 unless an earlier answer is still to come."""
        if self.transport.is_closing():  # and `connection_lost` gives back what was taken
            return
        held = self._size()
        if self.flow.write_paused:
            held += self.transport.get_write_buffer_size()
        self._budget.left += self._held - held
        self._held = held
        if held > SMALL_BYTES and self._budget.left < 0:
            if self.pipeline or self.flow.write_paused:
                self._received = b""
                self.pipeline.clear()
                self.transport.abort()
            else:
                self._refuse(503, TOO_MUCH)

    def on_headers_complete(self) -> None:
        """Start the request, or end the connection if it exceeds a limit."""
        size = sum((len(name) + len(value) for name, value in self.headers), len(self.url))
        if size > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            self._refuse_head()
        elif len(self.pipeline) >= MAX_AHEAD:
            self._refuse(400, f"more than {MAX_AHEAD} requests ahead of their responses")
        if self._refused:
            raise ConnectionAbortedError  # makes the parser stop
        self._head_bytes = 0
        if not self.flow.write_paused:
            self._progress = self.loop.time()
        last = self.cycle
        super().on_headers_complete()
        if self.cycle is not last:  # or `Parser` parses the head again
            self._heads.append(size + HEADER_BYTES * len(self.headers))

    def _should_upgrade(self) -> bool:
        """Return whether uvicorn must drop the current head, which `Parser` parses again."""
        return self.parser.get_method() != b"CONNECT"

    def on_body(self, body: bytes) -> None:
        """Pass a piece of the body on."""
        self._head_bytes = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Start the next request, or wait for one; the timer per response of uvicorn is not set."""
        self._progress = self.loop.time()
        if self.transport.is_closing():
            return
        self._heads.popleft()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        last = self.cycle
        if self.scope is last.scope:  # or another head has begun to arrive
            self._forget_head()
        last.scope, last.body = None, bytearray()  # type: ignore[assignment]
        self.flow.resume_reading()

    def pause_writing(self) -> None:
        """Wait for the client to read the response."""
        super().pause_writing()
        self._progress = self.loop.time()
        self._hold()

    def resume_writing(self) -> None:
        """Continue to write."""
        super().resume_writing()
        self._progress = self.loop.time()
        self._hold()

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be parsed, which includes what exceeds a limit."""
        self._refuse(400, msg)

    def _forget_head(self) -> None:
        self.url, self.headers, self.scope = b"", [], None  # type: ignore[assignment]

    def _refuse_head(self) -> None:
        limits = f"{MAX_HEAD_BYTES} bytes or {MAX_HEADERS} lines"
        self._refuse(431, f"the headers exceed {limits}: send less")

    def _refuse(self, status: int, message: str) -> None:
        if self._refused:
            return
        self._refused = True
        self._received = b""
        self._forget_head()
        last: RequestResponseCycle | None = self.cycle
        if last is not None and not last.more_body and not last.response_complete:
            last.keep_alive = False  # respond to the earlier requests, then end
            return
        body = json.dumps({"error": message}).encode()
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nconnection: close\r\n"
        head += "retry-after: 1\r\n" * (status == 503)
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.transport.close()
