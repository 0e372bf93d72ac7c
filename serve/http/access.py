"""Checks the Host header and the bearer token of every request.

Starlette's TrustedHostMiddleware does not allow the addresses that kubelets and Prometheus use.
"""

import hmac
import ipaddress
import re
from collections.abc import Collection
from functools import lru_cache

from starlette.exceptions import HTTPException
from starlette.types import Scope

from serve.http.bodies import Headers

HEALTH_PATHS = {"/v2/health/live", "/v2/health/ready"}
SCRIPTS = ("page", "answers", "docs", "drawing", "picture", "pixels", "question", "server")
FILES = ("style.css", *(f"{name}.js" for name in SCRIPTS))
PAGES = {"/": "index.html", "/docs": "docs.html"} | {f"/{name}": name for name in FILES}
# A browser sends no token for what it loads itself; these pages and the document hold no secret.
OPEN_PATHS = {*PAGES, "/openapi.json"}
HOST = re.compile(r"(?:\[([^\]]+)\]|([^:]+))(?::\d*)?")
MAX_HOST_BYTES = 300  # a name has at most 253; longer ones are not worth remembering
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
TOKEN = re.compile(r"[!-~]+")
SECURITY_HEADERS: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
        b"frame-ancestors 'none'",
    ),
]


def check_token(token: str | None) -> None:
    """Raise ValueError unless a client can send the token in a header."""
    if token and not TOKEN.fullmatch(token):
        raise ValueError(
            "SERVE_TOKEN must be printable ASCII without spaces or line breaks: "
            'set it with SERVE_TOKEN="$(cat FILE)", which drops the last line break'
        )


class Access:
    """The rules of access.

    token: bearer token that all routes but the page and the health checks require, if given.
    hosts: names that the Host header may have, besides IP addresses; "*" allows all.
    """

    def __init__(self, token: str | None = None, hosts: Collection[str] = ("localhost",)) -> None:
        self._token = token.encode() if token else None
        self._hosts = {host.lower() for host in hosts}
        self._is_allowed = lru_cache(maxsize=1024)(self._is_allowed_host)

    def check(self, scope: Scope) -> None:
        """Check a request by its path and headers.

        Raises:
            HTTPException: its Host is not allowed (421), a page of another site sent it (403), or
                it lacks the token (401).
        """
        path = scope["path"]
        if path in HEALTH_PATHS:
            return
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"")
        if len(host) > MAX_HOST_BYTES or not self._is_allowed(host):
            name = host.decode("latin-1")[:100]
            raise HTTPException(421, f"the host {name!r} is not one of --allowed-hosts")
        if scope["method"] not in SAFE_METHODS and _is_cross_site(headers, host):
            raise HTTPException(403, "a page of another site sent this request")
        if self._token and path not in OPEN_PATHS:
            scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token):
                raise HTTPException(
                    401, "missing or invalid bearer token", {"www-authenticate": "Bearer"}
                )

    def _is_allowed_host(self, header: bytes) -> bool:
        """Whether a page of another site cannot have sent the request.

        Such a page reaches this server by having its own name resolve to the server's address (DNS
        rebinding). An address in Host is always one that the client meant to reach; browsers
        always send Host.
        """
        if not header or "*" in self._hosts:
            return True
        found = HOST.fullmatch(header.decode("latin-1").lower())
        if not found:
            return False
        name = found[1] or found[2]
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts
        return True


def _is_cross_site(headers: dict[bytes, bytes], host: bytes) -> bool:
    """Return whether a browser sent the request from a page of another origin.

    Source: https://pkg.go.dev/net/http#CrossOriginProtection
    """
    if site := headers.get(b"sec-fetch-site"):
        return site not in (b"same-origin", b"none")
    origin = headers.get(b"origin")  # of browsers where Sec-Fetch-Site is not sent
    return origin is not None and origin.partition(b"://")[2] != host
