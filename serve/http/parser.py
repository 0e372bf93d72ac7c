"""Parses HTTP requests: uvicorn's parser, but for upgrades."""

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Parser(httptools.HttpRequestParser):
    """A parser that ignores upgrades, of which this server offers none (RFC 9110, 7.8).

    httptools ends the request at its head. So that head is dropped, and parsed again without the
    upgrade.
    """

    def __init__(self, connection: HttpToolsProtocol) -> None:
        super().__init__(connection)
        self._connection = connection

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]
        """Parse what has arrived."""
        try:
            super().feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self.get_method() == b"CONNECT":
                raise
            method, url, version = self.get_method(), self._connection.url, self.get_http_version()
            lines = [method + b" " + url + b" HTTP/" + version.encode()]
            headers = self._connection.headers
            lines += [name + b": " + value for name, value in headers if name != b"upgrade"]
            (end,) = upgrade.args
            self.feed_data(b"\r\n".join([*lines, b"", data[end:]]))
