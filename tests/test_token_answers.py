"""Answers with a status of 200 that hold no token of use, and bodies that unpack to gigabytes."""

from __future__ import annotations

import functools
import gzip
import resource
import sys
import zlib

import pytest
from support.token_endpoint import TokenEndpoint, token

from exo_imap_oauth.errors import TokenEndpointUnavailable
from exo_imap_oauth.token_cache import MemoryTokenCache


@pytest.mark.parametrize("text", ["a b", "tök", "token\n", "", "a\x01auth=Bearer b", 'a"b'])
def test_a_token_that_no_login_can_send_is_neither_given_out_nor_kept(text: str) -> None:
    cache = MemoryTokenCache()
    with TokenEndpoint(token(text)) as endpoint:
        source = endpoint.source(cache=cache)
        with pytest.raises(TokenEndpointUnavailable) as raised:
            source.get_token()
        assert cache.get(source._slot.key) is None
    assert not text or text not in str(raised.value)


@functools.cache
def bomb() -> bytes:
    """A kilobyte or so that unpacks to 200 MB, twice over; made without holding them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    zeros = bytes(1_000_000)
    once = b"".join(packer.compress(zeros) for _ in range(200)) + packer.flush()
    return gzip.compress(once, 9)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, gzip", "br", "GZIP"])
def test_a_compressed_answer_is_refused_without_being_unpacked(encoding: str) -> None:
    body = zlib.compress(b"\0" * 10_000_000) if encoding == "deflate" else bomb()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    before = peak_memory()
    with TokenEndpoint(head.encode() + body) as endpoint:
        with pytest.raises(TokenEndpointUnavailable, match="compressed, which was not asked for"):
            endpoint.source().get_token()
        assert "accept-encoding: identity" in endpoint.headers[0].lower()
        assert len(endpoint.forms) == 1  # the next answer would be no better
    assert peak_memory() - before < 100_000_000


def peak_memory() -> int:
    """Bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
