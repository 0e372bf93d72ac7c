"""uvicorn with a constant response: the cost of HTTP alone."""

import sys
from typing import Any

import uvicorn

BODY = b" " * 500


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Read the request and send the response."""
    if scope["type"] == "http":
        while (await receive())["more_body"]:
            pass
        headers = [(b"content-type", b"application/json"), (b"content-length", b"500")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
