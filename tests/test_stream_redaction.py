"""credentials/stream_redaction.py: no secret leaves in a response that passes in parts, and nothing else changes."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from claude_proxy.credentials.redaction import Redactor
from claude_proxy.credentials.stream_redaction import LONGEST_CREDENTIAL, ErrorEventRedactor, StreamRedactor
from claude_proxy.secret import Secret

KEY, LONGER, QUOTED, OAUTH = "made-up-key", "made-up-key-and-more", 'made-"up"-quoted', "sk-ant-oat01-made-up-of-nobody"
SECRETS = Redactor([Secret(KEY), Secret(LONGER), Secret(QUOTED), Secret("yek-pu-made-up")]).forms()
PARTS = st.lists(
    st.one_of(
        st.sampled_from(
            [KEY, LONGER, QUOTED, OAUTH, KEY[:-1], LONGER[:-2], "sk-ant-", "sk-ant-oat", "yek-pu-", "\n\n", '"', "é"]
        ),
        st.text(max_size=6),
    ),
    max_size=8,
).map("".join)
CUTS = st.lists(st.integers(1, 9), min_size=1)


def passed(redactor, data, cuts):
    out, place = bytearray(), 0
    while place < len(data):
        for cut in cuts:
            out += redactor.feed(data[place : place + cut])
            place += cut
    return bytes(out) + redactor.finish()


@given(PARTS, CUTS)
@example(f"{KEY}{LONGER}", [1])
@example(f"{KEY}-and-mor", [3])
@example(f"made-up-{KEY}", [1])
@example("made-up-keyek-pu-made-up", [12, 1])
@example(f"x{OAUTH}", [1])
@example("sk-ant-" + "a" * 2 * LONGEST_CREDENTIAL, [100])
def test_no_secret_passes_however_it_is_cut(text, cuts):
    """Whatever stands around a secret and wherever it is cut: it is gone, the length stays, and other bytes stay."""
    data = text.encode("utf-8", "surrogatepass")
    out = passed(StreamRedactor(SECRETS), data, cuts)
    assert len(out) == len(data)
    assert not [secret for secret in SECRETS if secret in out]
    assert OAUTH.encode() not in out
    kept = [(before, after) for before, after in zip(data, out, strict=True) if after != ord("*")]
    assert all(before == after for before, after in kept)
    if not any(secret in data for secret in SECRETS) and b"sk-ant-" not in data:
        assert out == data


@given(PARTS, CUTS)
def test_cuts_do_not_show(text, cuts):
    """The output depends on the bytes, and not on how they were cut."""
    data = text.encode("utf-8", "surrogatepass")
    assert passed(StreamRedactor(SECRETS), data, cuts) == passed(StreamRedactor(SECRETS), data, [1])


def test_a_secret_inside_json_is_found():
    """A secret with a character that JSON escapes is taken out of JSON, too."""
    data = json.dumps({"message": f"bad key {QUOTED}"}).encode()
    assert b"quoted" not in passed(StreamRedactor(SECRETS), data, [5])


@pytest.mark.parametrize("end", ["\n\n", '"}', "x", "\r\n\r\n"])
def test_an_event_is_not_held_back(end):
    """What cannot be the beginning of a secret leaves at once."""
    data = f"data: made-up-{end}".encode()
    assert StreamRedactor(SECRETS).feed(data) == data


def test_what_may_become_a_secret_waits():
    """The beginning of a secret waits for what follows it, and leaves when it is none or when the response ends."""
    redactor = StreamRedactor(SECRETS)
    assert redactor.feed(b"a made-up-k") == b"a "
    assert redactor.feed(b"i") == b"made-up-ki"
    assert redactor.feed(b"sk-ant-oat") == b""
    assert redactor.finish() == b"sk-ant-oat"


MESSAGE = (
    b'event: message_start\ndata: {"type": "message_start"}\n\n'
    b'event: content_block_delta\ndata: {"delta": {"text": "event: error made-up-key\\nevent: error made-up-key"}}\n\n'
)
ERRORS = [
    b'event: error\ndata: {"type": "error", "error": {"type": "api_error", "message": "key made-up-key-and-more"}}\n\n',
    b'event:error\r\ndata: {"error": "made-up-key"}\r\n\r\n',
    b'data: {"type":"error","error":{"message":"made-up-key"}}\n\n',
    b'data: {"error": {"message": "made-up-key"}}\n\n',
    b'data: { "type" : "error","error":{"message":"made-up-key"}}\n\n',
]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("size", [1, 2, 7, 48, 1000])
def test_claudes_words_stay_and_its_errors_lose_secrets(error, size):
    """A message passes to the byte, also one that speaks of errors; an error event at its end, or alone, has no secret."""
    out = passed(ErrorEventRedactor(lambda: SECRETS), MESSAGE + error, [size])
    assert out.startswith(MESSAGE)
    assert b"made-up-key" not in out[len(MESSAGE) :]
    assert len(out) == len(MESSAGE + error)
    assert b"made-up-key" not in passed(ErrorEventRedactor(lambda: SECRETS), error, [size])


@given(st.binary(max_size=60), CUTS)
def test_other_bytes_pass_at_once(data, cuts):
    """Without an error event nothing is changed or held back."""
    redactor = ErrorEventRedactor(lambda: SECRETS)
    if b"error" not in data:
        assert redactor.feed(data) == data
        assert passed(ErrorEventRedactor(lambda: SECRETS), data, cuts) == data
