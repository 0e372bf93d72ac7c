"""Reads the headers that describe a body; compresses and decompresses it."""

import re
import zlib

from starlette.exceptions import HTTPException

from serve.http.bodies import MAX_BODY_BYTES, Headers

# By the name of an encoding, zlib's number for its format.
WINDOW_BITS = {b"gzip": 31, b"deflate": 15, b"identity": 0}
COMPRESSED_FROM = 1024  # bytes of a response; a smaller one would gain nothing


def read_encoding(headers: Headers) -> tuple[int | None, bytes, bytes]:
    """Return how a request's headers describe its body, and the encoding for the response.

    Returns:
        The length in bytes of the JSON before raw tensors, or None if all is JSON; the encoding of
        the body; and the one for the response. `identity` is not compressed at all.

    Raises:
        HTTPException: the length is not a number (400), or the body is compressed otherwise than by
            gzip or deflate (415).
    """
    length, content, accepted = None, b"identity", b"identity"
    for name, value in headers:
        if name == b"inference-header-content-length":
            digits = value.strip()
            if not digits.isdigit() or len(digits) > 18:
                raise HTTPException(400, "Inference-Header-Content-Length must be 1 to 18 digits")
            length = int(digits)
        elif name == b"content-encoding":
            content = value.strip().lower()
            if content not in WINDOW_BITS:
                raise HTTPException(415, "Content-Encoding must be gzip, deflate or identity")
        elif name == b"accept-encoding":
            accepted = _choose(value)
    return length, content, accepted


def _choose(accepted: bytes) -> bytes:
    """Return the first supported encoding in Accept-Encoding."""
    for part in accepted.lower().split(b","):
        encoding, _, quality = part.replace(b" ", b"").partition(b";q=")
        if encoding in WINDOW_BITS and not re.fullmatch(rb"0(\.0*)?", quality):
            return encoding
    return b"identity"


def decompress(body: bytes, encoding: bytes) -> bytes:
    """Return the body as it was before compression.

    Raises:
        HTTPException: it is larger than `MAX_BODY_BYTES` (413), or not in that encoding (400).
    """
    decompressor = zlib.decompressobj(WINDOW_BITS[encoding])
    try:
        content = decompressor.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise HTTPException(400, f"the body is not {encoding.decode()}: {error}") from error
    if len(content) > MAX_BODY_BYTES:
        raise HTTPException(413, f"the body exceeds {MAX_BODY_BYTES} bytes decompressed: send less")
    if not decompressor.eof or decompressor.unused_data:
        raise HTTPException(400, f"the body is not one complete {encoding.decode()} stream")
    return content


def compress(content: bytes, encoding: bytes) -> bytes:
    """Return the content compressed, fast rather than small."""
    return zlib.compress(content, 1, WINDOW_BITS[encoding])
