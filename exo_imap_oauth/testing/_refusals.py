"""A refusal of the token endpoint, in Entra's terms."""

from __future__ import annotations


class Refused(Exception):
    """The token endpoint does not issue a token; the text is Entra's, without its IDs and times.

    Attributes:
        status: The HTTP status.
        error: The ``error`` of RFC 6749 section 5.2.
        code: The number after ``AADSTS``.
    """

    def __init__(self, status: int, error: str, code: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.error = error
        self.code = code
