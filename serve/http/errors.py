"""Errors as responses."""

INTERNAL_ERROR = "internal error, see the log"


class HTTPError(Exception):
    """An error response: its HTTP status and a message for the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
