"""Errors with which the proxy itself answers a request."""


class Refused(Exception):
    """The request is refused. ``status`` and ``headers`` are for the response, the message is for the client.

    Without ``headers`` the response says that a repetition is no use.
    """

    def __init__(self, status: int, message: str, headers: list[tuple[str, str]] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
