"""Streams of chat completions as providers were seen to send them: for the tests of the translator, and those of the proxy."""

import json


def chunk(delta=None, finish=None, **more):
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion.chunk", "choices": [choice]} | more


def call(index=None, arguments=None, *, given=None, name=None, **more):
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    made = {"function": function} | more
    made |= {} if index is None else {"index": index}
    return made | ({} if given is None else {"id": given, "type": "function"})


def calls(*each):
    return chunk({"tool_calls": list(each)})


def sse(*chunks, done=True):
    lines = [one if isinstance(one, bytes) else b"data: " + json.dumps(one).encode() + b"\n\n" for one in chunks]
    return b"".join(lines) + (b"data: [DONE]\n\n" if done else b"")


USAGE = chunk(usage={"prompt_tokens": 100, "completion_tokens": 7}, choices=[])
STOP, CALLED = chunk(finish="stop"), chunk(finish="tool_calls")
A, B = '{"path": "/a"}', '{"path": "/b \\"{[\\\\"}'

# Two calls, Read with A and Look with B, in the ways in which providers tell them.
SIDE_BY_SIDE = {
    "one-after-the-other": [
        calls(call(0, "", given="c1", name="Read")), calls(call(0, A)), calls(call(1, "", given="c2", name="Look")),
        calls(call(1, B)),
    ],
    "both-open": [
        calls(call(0, "", given="c1", name="Read")), calls(call(1, "", given="c2", name="Look")), calls(call(0, A)),
        calls(call(1, B)),
    ],
    "in-one-chunk": [
        calls(call(0, "", given="c1", name="Read"), call(1, "", given="c2", name="Look")), calls(call(0, A), call(1, B)),
    ],
    "whole-in-one-chunk": [calls(call(0, A, given="c1", name="Read"), call(1, B, given="c2", name="Look"))],
    "interleaved": [
        calls(call(0, "", given="c1", name="Read")), calls(call(1, "", given="c2", name="Look")),
        *(calls(call(0, a), call(1, b)) for a, b in zip([A[:3], A[3:]], [B[:9], B[9:]], strict=True)),
    ],
    "later-one-first": [
        calls(call(0, "", given="c1", name="Read")), calls(call(1, B, given="c2", name="Look")), calls(call(0, A[:5])),
        calls(call(0, A[5:])),
    ],
    "name-and-id-repeated": [
        calls(call(0, A[:4], given="c1", name="Read")), calls(call(0, A[4:], given="c1", name="Read")),
        calls(call(1, B[:4], given="c2", name="Look")), calls(call(1, B[4:], given="c2", name="Look")),
    ],
    "a-line-between": [
        calls(call(0, A[:4], given="c1", name="Read")), chunk({"content": "\n"}), calls(call(0, A[4:])),
        calls(call(1, B, given="c2", name="Look")),
    ],
    "a-thought-between": [
        calls(call(0, A[:4], given="c1", name="Read")), chunk({"reasoning_content": "hm"}), calls(call(0, A[4:])),
        calls(call(1, B, given="c2", name="Look")),
    ],
    "one-index-for-all": [calls(call(0, A, given="c1", name="Read")), calls(call(0, B, given="c2", name="Look"))],
    "no-index": [
        calls(call(None, A[:4], given="c1", name="Read")), calls(call(None, A[4:])),
        calls(call(None, B, given="c2", name="Look")),
    ],
    "no-index-ids-alone": [
        calls(call(None, A[:4], given="c1", name="Read")), calls(call(None, B[:4], given="c2", name="Look")),
        calls(call(None, A[4:], given="c1")), calls(call(None, B[4:], given="c2")),
    ],
    "names-alone": [calls(call(None, A, name="Read")), calls(call(None, B, name="Look"))],
    "an-object-and-no-text": [
        calls({"index": 0, "id": "c1", "function": {"name": "Read", "arguments": json.loads(A)}}),
        calls({"index": 1, "id": "c2", "function": {"name": "Look", "arguments": json.loads(B)}}),
    ],
}  # fmt: skip
