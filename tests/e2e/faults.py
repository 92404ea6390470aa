"""Every fault that an upstream is made to have, by name: scripts for ``fault_upstream.py``, and no word on what is expected."""

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from http import HTTPStatus

from fault_upstream import Script, Turn

HUGE = 10 * 1024 * 1024
PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>nginx</h1></body></html>"
ERROR_TYPES = (
    "invalid_request_error", "authentication_error", "billing_error", "permission_error", "not_found_error",
    "request_too_large", "rate_limit_error", "api_error", "timeout_error", "overloaded_error", "made_up_error",
)  # fmt: skip

REGISTERED = sorted(int(status) for status in HTTPStatus if status >= 400)
# Of proxies, of content delivery networks, of Anthropic's, and of nobody's.
ODD = (419, 420, 430, 440, 444, 450, 460, 463, 494, 495, 496, 497, 498, 499, 509, *range(520, 531), 561, 598, 599)
REDIRECTS = (300, 301, 302, 303, 304, 305, 306, 307, 308)


def error_body(turn: Turn, kind: str, words: str) -> bytes:
    """An error in the format of the request's path."""
    if turn.is_openai:
        return json.dumps({"error": {"message": words, "type": kind, "param": None, "code": None}}).encode()
    return json.dumps({"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_made_up"}).encode()


def error_event(turn: Turn, kind: str, words: str) -> bytes:
    prefix = b"" if turn.is_openai else b"event: error\n"
    return prefix + b"data: " + error_body(turn, kind, words) + b"\n\n"


def words_of(status: int) -> str:
    return f"made up {status}"


def status(code: int, *headers: str) -> Script:
    """A whole error with a body in the provider's format."""

    async def script(turn: Turn) -> None:
        body = error_body(turn, "api_error" if code >= 500 else "invalid_request_error", words_of(code))
        await turn.whole(body, *headers, status=f"{code} Made Up", media_type="application/json")

    return script


def bodiless(code: int, *headers: str) -> Script:
    async def script(turn: Turn) -> None:
        await turn.head(*headers, status=f"{code} Made Up")

    return script


def redirection(code: int) -> Script:
    async def script(turn: Turn) -> None:
        await turn.head(f"location: {turn.elsewhere}", "content-length: 0", status=f"{code} Made Up")

    return script


def page(code: int) -> Script:
    async def script(turn: Turn) -> None:
        await turn.whole(PAGE, status=f"{code} Made Up", media_type="text/html")

    return script


def once(script: Script) -> Script:
    """The script at a case's first request, and a good answer at every other one."""

    async def first(turn: Turn) -> None:
        await (turn.answer() if turn.number else script(turn))

    return first


async def served(turn: Turn) -> None:
    await turn.answer()


# --- Before and in the headers -----------------------------------------------------------------------------------------------


async def early_hints(turn: Turn) -> None:
    await turn.line.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n")
    await turn.answer()


async def late_headers(turn: Turn) -> None:
    await asyncio.sleep(0.3)
    await turn.answer()


async def slow_headers(turn: Turn) -> None:
    turn.status = 200
    await turn.line.send_slowly(
        b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\nrequest-id: req_made_up\r\n" % turn.media_type.encode()
    )
    body = b"".join(turn.parts)
    await turn.line.send_slowly(b"content-length: %d\r\n\r\n" % len(body))
    turn.said += body
    await turn.line.send(body)


async def no_headers(turn: Turn) -> None:
    await turn.case.abandoned(turn)


async def half_the_headers(turn: Turn) -> None:
    await turn.line.send(b"HTTP/1.1 200 OK\r\ncontent-ty")
    await turn.case.abandoned(turn)


async def closed_before_headers(turn: Turn) -> None:
    turn.line.close()


async def half_closed_before_headers(turn: Turn) -> None:
    turn.line.end()
    await turn.case.abandoned(turn)


async def reset_before_headers(turn: Turn) -> None:
    turn.line.reset()


async def closed_in_headers(turn: Turn) -> None:
    await turn.line.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/ev")
    turn.line.close()


async def reset_in_headers(turn: Turn) -> None:
    await turn.line.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/ev")
    turn.line.reset()


def raw(*parts: bytes) -> Script:
    """These bytes and nothing else, in the place of an answer."""

    async def script(turn: Turn) -> None:
        for part in parts:
            await turn.line.send(part)
        turn.line.close()

    return script


async def long_header(turn: Turn) -> None:
    """A header that is long and still allowed."""
    body = b"".join(turn.parts)
    await turn.whole(body, "x-long: " + "x" * 40_000)


async def many_headers(turn: Turn) -> None:
    body = b"".join(turn.parts)
    await turn.whole(body, *(f"x-{number}: {number}" for number in range(200)))


# --- Where the body ends -----------------------------------------------------------------------------------------------------


def halves(turn: Turn) -> tuple[bytes, bytes]:
    """A good answer, cut in the middle of an event after the first events, or in the middle of the message."""
    whole = b"".join(turn.parts)
    cut = len(whole) // 2 if not turn.streams else len(b"".join(turn.parts[:2])) + 10
    return whole[:cut], whole[cut:]


async def no_body(turn: Turn) -> None:
    """Headers, and then nothing."""
    await turn.chunked()
    await turn.case.abandoned(turn)


async def stalled_at_once(turn: Turn) -> None:
    """The first bytes of the first event, and then nothing."""
    await turn.chunked()
    await turn.chunk(turn.parts[0][:10])
    await turn.case.abandoned(turn)


async def stalled(turn: Turn) -> None:
    await turn.chunked()
    await turn.chunk(halves(turn)[0])
    await turn.case.abandoned(turn)


async def stalled_between_events(turn: Turn) -> None:
    await turn.chunked()
    for part in turn.parts[:2]:
        await turn.chunk(part)
    await turn.case.abandoned(turn)


async def closed_after_headers(turn: Turn) -> None:
    await turn.chunked()
    turn.line.close()


async def reset_after_headers(turn: Turn) -> None:
    await turn.chunked()
    turn.line.reset()


async def closed_in_an_event(turn: Turn) -> None:
    await turn.chunked()
    await turn.chunk(halves(turn)[0])
    turn.line.close()


async def reset_in_an_event(turn: Turn) -> None:
    await turn.chunked()
    await turn.chunk(halves(turn)[0])
    await asyncio.sleep(0.2)  # a reset takes what was not read yet with it
    turn.line.reset()


async def reset_between_events(turn: Turn) -> None:
    await turn.chunked()
    for part in turn.parts[:2] if turn.streams else [halves(turn)[0]]:
        await turn.chunk(part)
    await asyncio.sleep(0.2)
    turn.line.reset()


async def half_closed_in_an_event(turn: Turn) -> None:
    await turn.chunked()
    await turn.chunk(halves(turn)[0])
    turn.line.end()
    await turn.case.abandoned(turn)


async def truncated_chunk(turn: Turn) -> None:
    """A chunk that is shorter than it says, and the end of the connection."""
    first, rest = halves(turn)
    await turn.chunked()
    await turn.chunk(first)
    turn.said += rest[:5]
    await turn.line.send(b"%x\r\n%s" % (len(rest) + 100, rest[:5]))
    turn.line.close()


async def bad_chunk_size(turn: Turn) -> None:
    await turn.chunked()
    await turn.chunk(halves(turn)[0])
    await turn.line.send(b"no-number\r\nxx\r\n")
    await turn.case.abandoned(turn)


async def bad_chunk_size_later(turn: Turn) -> None:
    """The same in small packets: the wrong size comes when the answer's beginning has been read."""
    await turn.chunked()
    first = halves(turn)[0]
    turn.said += first
    await turn.line.send_slowly(b"%x\r\n%s\r\nno-number\r\nxx\r\n" % (len(first), first))
    await turn.case.abandoned(turn)


async def no_last_chunk(turn: Turn) -> None:
    """All of the answer, and the connection closes without the coding's end."""
    await turn.chunked()
    for part in turn.parts:
        await turn.chunk(part)
    turn.line.close()


async def length_too_long(turn: Turn) -> None:
    body = b"".join(turn.parts)
    await turn.head(f"content-length: {len(body) + 10}")
    turn.said += body
    await turn.line.send(body)
    turn.line.close()


async def length_too_short(turn: Turn) -> None:
    body = b"".join(turn.parts)
    await turn.head(f"content-length: {len(body) // 2}")
    turn.said += body[: len(body) // 2]
    await turn.line.send(body)
    turn.line.close()


async def until_close(turn: Turn) -> None:
    """Neither a length nor chunks: the answer ends with its connection."""
    await turn.head("connection: close")
    turn.said += b"".join(turn.parts)
    await turn.line.send(b"".join(turn.parts))
    turn.line.close()


# --- What the body says ------------------------------------------------------------------------------------------------------


def parts(change: Callable[[Turn, list[bytes]], list[bytes]]) -> Script:
    """A good answer with its parts changed."""

    async def script(turn: Turn) -> None:
        await turn.answer(*change(turn, turn.parts))

    return script


def joined(change: Callable[[bytes], bytes]) -> Script:
    return parts(lambda _turn, found: [change(b"".join(found))])


async def byte_by_byte(turn: Turn) -> None:
    await turn.chunked()
    for byte in b"".join(turn.parts):
        await turn.chunk(bytes([byte]))
    await turn.last()


def _split_character(_turn: Turn, found: list[bytes]) -> list[bytes]:
    """Cut between the two bytes of the text's é, wherever it stands unescaped."""
    whole = b"".join(found).replace(b"\\u00e9", "é".encode())
    cut = whole.index("é".encode()) + 1
    return [whole[:cut], whole[cut:]]


def _extra(*events: bytes) -> Callable[[Turn, list[bytes]], list[bytes]]:
    return lambda _turn, found: [found[0], *events, *found[1:]]


def _after_the_end(_turn: Turn, found: list[bytes]) -> list[bytes]:
    return [*found, b'event: ping\ndata: {"type": "ping"}\n\n', b"data: [DONE]\n\n"]


def _without_end(turn: Turn, found: list[bytes]) -> list[bytes]:
    return found[:-2] if not turn.is_openai else found[:-1]


def huge(turn: Turn, found: list[bytes]) -> list[bytes]:
    """A text of 10 MB in one event, or in the message."""
    if not turn.streams:
        return [found[0].replace(b"an answer", b"x" * HUGE, 1)]
    large = [part for part in found if b"answer" in part]
    return [part.replace(b"answer", b"x" * HUGE, 1) if part in large[:1] else part for part in found]


def huge_error(code: int) -> Script:
    async def script(turn: Turn) -> None:
        body = error_body(turn, "invalid_request_error", "x" * HUGE)
        await turn.whole(body, status=f"{code} Made Up", media_type="application/json")

    return script


def first_error(kind: str) -> Script:
    """A 200 whose first event, or whose whole body, is an error."""

    async def script(turn: Turn) -> None:
        if turn.streams:
            await turn.answer(error_event(turn, kind, f"made up {kind}"))
        else:
            await turn.answer(error_body(turn, kind, f"made up {kind}"))

    return script


def later_error(kind: str) -> Script:
    """A 200 whose stream ends with an error."""

    async def script(turn: Turn) -> None:
        found = turn.parts
        await turn.answer(*found[:3], error_event(turn, kind, f"made up {kind}"))

    return script


async def json_instead_of_a_stream(turn: Turn) -> None:
    await turn.whole(error_body(turn, "api_error", "made up"), media_type="application/json")


def bodies(body: bytes, media_type: str | None = None) -> Script:
    async def script(turn: Turn) -> None:
        await turn.whole(body, media_type=media_type)

    return script


def typed(media_type: str) -> Script:
    """A good answer under another content-type."""

    async def script(turn: Turn) -> None:
        await turn.whole(b"".join(turn.parts), media_type=media_type)

    return script


# --- How the body is coded ---------------------------------------------------------------------------------------------------


def coded(name: str, code: Callable[[bytes], bytes]) -> Script:
    async def script(turn: Turn) -> None:
        body = b"".join(turn.parts)
        await turn.whole(code(body), f"content-encoding: {name}", said=body)

    return script


def coded_error(code: int) -> Script:
    async def script(turn: Turn) -> None:
        body = error_body(turn, "invalid_request_error", words_of(code))
        packed = gzip.compress(body)
        await turn.whole(packed, "content-encoding: gzip", status=f"{code} Made Up", media_type="application/json", said=body)

    return script


def lying_error(code: int) -> Script:
    async def script(turn: Turn) -> None:
        body = error_body(turn, "invalid_request_error", words_of(code))
        await turn.whole(body, "content-encoding: gzip", status=f"{code} Made Up", media_type="application/json")

    return script


async def truncated_gzip(turn: Turn) -> None:
    packed = gzip.compress(b"".join(turn.parts))[:-12]
    await turn.whole(packed, "content-encoding: gzip", said=zlib.decompressobj(wbits=31).decompress(packed))


async def gzip_in_pieces(turn: Turn) -> None:
    await turn.chunked("content-encoding: gzip")
    packer = zlib.compressobj(wbits=31)
    for part in turn.parts:
        await turn.chunk(packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH), said=part)
    await turn.chunk(packer.flush(), said=b"")
    await turn.last()


FAULTS: Mapping[str, Script] = {
    "served": served,
    # Before and in the headers.
    "early-hints": early_hints,
    "late-headers": late_headers,
    "slow-headers": slow_headers,
    "no-headers": no_headers,
    "half-the-headers": half_the_headers,
    "closed-before-headers": closed_before_headers,
    "half-closed-before-headers": half_closed_before_headers,
    "reset-before-headers": reset_before_headers,
    "closed-in-headers": closed_in_headers,
    "reset-in-headers": reset_in_headers,
    "garbage": raw(b"\x00\x01\x02 this is not HTTP\r\n\r\n" * 10),
    "smtp": raw(b"220 mail.invalid ESMTP\r\n"),
    "status-of-letters": raw(b"HTTP/1.1 abc OK\r\ncontent-length: 0\r\n\r\n"),
    "status-1000": raw(b"HTTP/1.1 1000 OK\r\ncontent-length: 0\r\n\r\n"),
    "header-without-colon": raw(b"HTTP/1.1 200 OK\r\nno colon here\r\ncontent-length: 0\r\n\r\n"),
    "two-lengths": raw(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 5\r\n\r\nabcde"),
    "length-of-letters": raw(b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\nabcde"),
    "header-too-long": raw(b"HTTP/1.1 200 OK\r\nx-long: ", b"x" * 2_000_000, b"\r\n\r\n"),
    "switching-protocols": raw(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
    "long-header": long_header,
    "many-headers": many_headers,
    # Where the body ends.
    "no-body": no_body,
    "stalled-at-once": stalled_at_once,
    "stalled": stalled,
    "stalled-between-events": stalled_between_events,
    "closed-after-headers": closed_after_headers,
    "reset-after-headers": reset_after_headers,
    "closed-in-an-event": closed_in_an_event,
    "reset-in-an-event": reset_in_an_event,
    "reset-between-events": reset_between_events,
    "half-closed-in-an-event": half_closed_in_an_event,
    "truncated-chunk": truncated_chunk,
    "bad-chunk-size": bad_chunk_size,
    "bad-chunk-size-later": bad_chunk_size_later,
    "no-last-chunk": no_last_chunk,
    "length-too-long": length_too_long,
    "length-too-short": length_too_short,
    "until-close": until_close,
    # What the body says.
    "byte-by-byte": byte_by_byte,
    "split-character": parts(_split_character),
    "one-chunk": parts(lambda _turn, found: [b"".join(found)]),
    "crlf": joined(lambda whole: whole.replace(b"\n", b"\r\n")),
    "cr": joined(lambda whole: whole.replace(b"\n", b"\r")),
    "no-space-after-data": joined(lambda whole: whole.replace(b"data: ", b"data:")),
    "comments": parts(_extra(b": a comment\n\n", b":\n\n")),
    "unknown-event": parts(_extra(b'event: made_up\ndata: {"type": "made_up", "x": 1}\n\n')),
    "ping-without-data": parts(_extra(b"event: ping\n\n")),
    "fields-of-sse": parts(_extra(b"id: 7\nretry: 1000\n\n")),
    "no-blank-lines": joined(lambda whole: whole.replace(b"\n\n", b"\n")),
    "invalid-utf-8": joined(lambda whole: whole.replace(b"answer", b"answ\xff\xfeer")),
    "invalid-json": parts(_extra(b"event: content_block_delta\ndata: {not json\n\n")),
    "no-object": parts(_extra(b"event: content_block_delta\ndata: [1, 2]\n\n")),
    "no-sse": bodies(b"just some words"),
    "empty": bodies(b""),
    "null": bodies(b"null"),
    "list": bodies(b"[]"),
    "other-object": bodies(b'{"made": "up"}'),
    "deep-json": bodies(b"[" * 100_000),
    "after-the-end": parts(_after_the_end),
    "no-end": parts(_without_end),
    "two-starts": parts(lambda _turn, found: [found[0], *found]),
    "huge-event": parts(huge),
    "html": bodies(PAGE, "text/html"),
    "no-content-type": typed(""),
    "wrong-content-type": typed("text/plain"),
    "odd-content-type": typed("Text/Event-Stream;charset=UTF-8"),
    "json-instead-of-a-stream": json_instead_of_a_stream,
    # How the body is coded.
    "gzip": coded("gzip", gzip.compress),
    "gzip-in-pieces": gzip_in_pieces,
    "deflate": coded("deflate", zlib.compress),
    "identity": coded("identity", bytes),
    "gzip-truncated": truncated_gzip,
    "gzip-lying": coded("gzip", bytes),
    "deflate-lying": coded("deflate", bytes),
    "br-lying": coded("br", bytes),
    "unknown-coding": coded("made-up", bytes),
    # Errors in odd shapes.
    "error-in-gzip": coded_error(400),
    "error-lying-gzip": lying_error(400),
    "huge-error": huge_error(400),
    "page-502": page(502),
    "page-503": page(503),
    "page-403": page(403),
    "429-with-a-time": status(429, "retry-after: 3600"),
    **{f"first-{kind}": first_error(kind) for kind in ERROR_TYPES},
    **{f"later-{kind}": later_error(kind) for kind in ERROR_TYPES},
    # Successes and redirections that are none.
    "204": bodiless(204),
    "205": bodiless(205, "content-length: 0"),
    **{str(code): redirection(code) for code in REDIRECTS},
}

STATUSES: Mapping[str, Script] = {str(code): status(code) for code in (*REGISTERED, *ODD)}


def is_only_for_streams(name: str) -> bool:
    """Whether a fault is of events, and a whole message cannot have it."""
    return name.startswith("later-") or name in {
        "stalled-between-events", "reset-between-events", "crlf", "cr", "no-space-after-data", "comments", "unknown-event",
        "ping-without-data", "fields-of-sse", "no-blank-lines", "invalid-json", "no-object", "after-the-end", "no-end",
        "two-starts", "odd-content-type", "json-instead-of-a-stream", "no-sse",
    }  # fmt: skip
