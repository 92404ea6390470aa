"""Conversations of every kind of client, on five credentials: each stays on one, and all of them are shared out."""

import json
import random
from collections import Counter, defaultdict

import pytest
from conftest import module_proxy
from processes import question

CONVERSATIONS, TURNS = 10, 4
FIVE = {label: f"sk-ant-oat01-made-up-five-{label}" for label in ("v", "w", "x", "y", "z")}
USERS = {"anna": "sk-made-up-token-of-anna-0123456789", "ben": "sk-made-up-token-of-ben-0123456789"}
SYSTEM = "You are a made-up agent. " * 50
MARK = {"cache_control": {"type": "ephemeral"}}


def header(place):
    return {}, {"x_claude_code_session_id": f"00000000-0000-4000-8000-{place:012}"}


def in_json(place):
    named = {"device_id": "0" * 64, "account_uuid": "", "session_id": f"10000000-0000-4000-8000-{place:012}"}
    return {"metadata": {"user_id": json.dumps(named)}}, {}


def older(place):
    named = f"user_{'4f' * 32}_account_5b1d0c1e-0000-4000-8000-000000000001_session_20000000-0000-4000-8000-{place:012}"
    return {"metadata": {"user_id": named}}, {}


def opaque(place):
    return {"metadata": {"user_id": f"made-up-customer-{place}"}}, {}


def nothing(_):
    return {}, {}


KINDS = (header, in_json, older, opaque, nothing)


def listed(named):
    return ",".join(f"{name}={token}" for name, token in named.items())


@pytest.fixture(scope="module")
def five(shared_upstream, tmp_path_factory):
    """A proxy with five credentials and two users."""
    tokens = {"CLAUDE_OAUTH_TOKENS": listed(FIVE), "PROXY_USER_TOKENS": listed(USERS)}
    yield from module_proxy(shared_upstream, tmp_path_factory.mktemp("affinity"), **tokens)


def body(kind, place, turn):
    """One turn of a conversation: its first words are another's only where an id tells them apart; the mark moves on."""
    words = f"first words of conversation {place}" if kind is nothing else "the same first words"
    history = [{"role": "user", "content": words}]
    for number in range(turn):
        history += [{"role": "assistant", "content": f"answer {number}"}, {"role": "user", "content": f"turn {number}"}]
    history[-1] |= {"content": [{"type": "text", "text": history[-1]["content"], **MARK}]}
    fields, _ = kind(place)
    return question("claude-opus-4-8", system=f"{SYSTEM}{kind.__name__}", messages=history, **fields)


def test_each_conversation_stays_on_one_credential(five, upstream):
    """Named in a header, in either form of an id, or in none: every turn, and every count, meets the same credential."""
    labels = {token: label for label, token in FIVE.items()}
    stays = defaultdict(list)
    conversations = [(kind, place) for place in range(CONVERSATIONS) for kind in KINDS]
    order = random.Random(4711)
    for turn in range(TURNS):
        order.shuffle(conversations)
        for kind, place in conversations:
            asked = body(kind, place, turn)
            path = "/v1/messages/count_tokens" if turn == 1 else "/v1/messages"
            assert five.ask(asked, path, token=USERS["anna"], **kind(place)[1]).status_code == 200
            stays[kind, place].append(labels[upstream.asked[-1].credential])
    moved = {(kind.__name__, place): "".join(found) for (kind, place), found in stays.items() if len({*found}) > 1}
    assert not moved
    shares = Counter(found[0] for found in stays.values())
    assert {*shares} == {*FIVE}
    assert max(shares.values()) - min(shares.values()) <= 2, shares
    for kind in KINDS:  # no kind alone fills a credential
        assert len({found[0] for (of, _), found in stays.items() if of is kind}) > 1, kind.__name__


def test_the_same_words_of_two_users(five, upstream):
    """Two users who begin alike are two conversations, and are shared out as such."""
    met = defaultdict(set)
    for turn in range(3):
        for name, token in USERS.items():
            assert five.ask(body(nothing, 0, turn), token=token).status_code == 200
            met[name].add(upstream.asked[-1].credential)
    assert [len(met[name]) for name in USERS] == [1, 1]
    assert met["anna"] != met["ben"]
