"""anthropic/opening.py: the digest of a conversation's opening."""

import hashlib
import json
import re
import subprocess
import sys

import pytest

from claude_proxy.anthropic.opening import MARK, opening_of

MARKED = {"cache_control": {"type": "ephemeral"}}
SYSTEM = "You are a made-up agent."
FIRST = "Mend the made-up tests."


def text(words, **more):
    return {"type": "text", "text": words, **more}


def said(first=FIRST, *more, system=SYSTEM, role="user", **fields):
    """Return a body with this first message, further turns and fields."""
    turns = [{"role": role, "content": first}, *more]
    return json.dumps({"model": "m", "max_tokens": 9, "messages": turns, "system": system} | fields).encode()


def opening(raw, user="anna", of=""):
    return opening_of(raw, user, of)


ANSWER = {"role": "assistant", "content": [text("done")]}
SAME = {
    "a later turn": said(FIRST, ANSWER, {"role": "user", "content": "more"}),
    "other fields": said(tools=[{"name": "t"}], model="other", stream=True, max_tokens=1, metadata={"user_id": "u"}),
    "the message as a block": said([text(FIRST)]),
    "a mark on the message": said([text(FIRST, **MARKED)]),
    "the system prompt as a block": said(system=[text(SYSTEM)]),
    "a mark on the system prompt": said(system=[text(SYSTEM, **MARKED)]),
    "members in another order": json.dumps(
        {"system": SYSTEM, "messages": [{"content": [{"text": FIRST, "type": "text"}], "role": "user"}]}
    ).encode(),
    "other spaces": json.dumps(json.loads(said()), indent=2).encode(),
    "Claude Code's accounts": said(system=[text("x-anthropic-billing-header: cc_version=1; cch=0123;"), text(SYSTEM)]),
}


@pytest.mark.parametrize("raw", SAME.values(), ids=SAME)
def test_what_changes_between_turns(raw):
    """Later turns, cache marks and the form of a text do not change the digest."""
    assert opening(raw) == opening(said())


OTHERS = {
    "another message": said("Mend the made-up docs."),
    "another system prompt": said(system="You are another made-up agent."),
    "no system prompt": b'{"model":"m","messages":[{"role":"user","content":"%s"}]}' % FIRST.encode(),
    "another role": said(role="system"),
    "the same words in two blocks": said([text(FIRST[:4]), text(FIRST[4:])]),
    "a block of the system prompt in the message": said([text("user"), text(FIRST)], system=[text(SYSTEM)]),
    "a block of the message in the system prompt": said([text(FIRST)], system=[text(SYSTEM), text("user")]),
    "an image": said([{"type": "image", "source": {"type": "base64", "data": "AAAA"}}, text(FIRST)]),
    "another image": said([{"type": "image", "source": {"type": "base64", "data": "BBBB"}}, text(FIRST)]),
    "a document": said([{"type": "document", "source": {"type": "base64", "data": "AAAA"}, "title": "t"}]),
    "a result": said([{"type": "tool_result", "tool_use_id": "t", "content": "x"}]),
    "another result": said([{"type": "tool_result", "tool_use_id": "t", "content": [text("x")]}]),
    "a block of nothing": said([{"type": "container_upload", "file_id": "f"}]),
    "no block": said([]),
    "a number": said(5),
    "nothing": said(None),
    "blocks that are none": said(["x", 5]),
}


def test_what_tells_conversations_apart():
    """Every other system prompt or first message has a different digest."""
    found = {name: opening(raw) for name, raw in OTHERS.items()} | {"itself": opening(said())}
    assert None not in found.values()
    assert len({*found.values()}) == len(found), found


def test_two_users_are_two_sessions():
    """The same words of two users, or of two `user_id`s of one user, are two conversations."""
    assert len({opening(said(), user, of) for user, of in [("anna", ""), ("ben", ""), ("anna", "b"), ("annab", "")]}) == 4


BROKEN = {
    "nothing": b"",
    "not JSON": b"{",
    "a list": b"[]",
    "no message": b'{"messages":[]}',
    "no messages": b'{"system":"x"}',
    "a message that is none": b'{"messages":["x"]}',
    "a message without content": b'{"messages":[{"role":"user"}]}',
    "too deep": b'{"messages":%s}' % (b"[" * 100_000),
    "another encoding": said().decode().encode("utf-16"),
}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
def test_no_opening(raw):
    """A body without a first message has no session and raises no error."""
    assert opening(raw) is None


@pytest.mark.parametrize(
    "half", ["\ud83d", "\ud83d\ud83d\ude00", "\\\ud83d"], ids=["half", "half-before-a-whole", "behind-a-backslash"]
)
def test_half_a_character(half):
    """A lone surrogate in or after the opening, or in the name, does not prevent a digest."""
    assert opening(said(half), "\ud83d", "\udc00").startswith(MARK)
    assert opening(said(half)) != opening(said())
    face = "a \U0001f600"
    assert opening(said(face, {"role": "user", "content": half})) == opening(said(face))


def test_the_digest_says_nothing():
    """The digest is short and marked, and it is no plain hash of the words."""
    found = opening(said())
    assert re.fullmatch(r"content-[0-9a-f]{32}", found)
    for words in (SYSTEM, FIRST, f"{SYSTEM}{FIRST}"):
        assert hashlib.blake2b(words.encode(), digest_size=16).hexdigest() not in found


def test_every_process_finds_the_same():
    """Workers and replicas compute the same digest, because it depends on nothing in the process."""
    code = f"from claude_proxy.anthropic.opening import opening_of; print(opening_of({said()!r}, 'anna', ''))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert other.stdout.strip() == opening(said())
