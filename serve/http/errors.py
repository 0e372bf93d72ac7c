"""The exception that becomes a response."""


class HTTPError(Exception):
    """An error response: its HTTP status and a message for the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
