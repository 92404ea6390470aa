"""openai/parts.py: a choice as parts in their order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.openai.parts import CALL, TEXT, THINKING, Part, parts

ARGUMENTS = {"arguments": {"a": "é"}, "name": "Read"}
GOOGLE = {"google": {"thought_signature": "EqSigned"}}


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"content": "b", "reasoning_content": "a", "tool_calls": [{"index": 1}], "refusal": "c"},
         [Part(THINKING, "a"), Part(TEXT, "b"), Part(TEXT, "c"), Part(CALL, place=1)]),
        ({"reasoning": "a", "reasoning_content": ""}, [Part(THINKING, "a")]),
        ({"reasoning": "a", "reasoning_content": "a"}, [Part(THINKING, "a")]),
        ({"content": [{"type": "text", "text": "a"}, {"type": "image"}, {"text": "b"}, "c"]}, [Part(TEXT, "ab")]),
        ({"content": "", "reasoning": None, "tool_calls": None}, []),
        ({"function_call": {"name": "Read", "arguments": "{"}}, [Part(CALL, "{", 0, name="Read")]),
        ({"tool_calls": [{"id": "c1", "function": ARGUMENTS}]}, [Part(CALL, '{"a": "é"}', None, "c1", "Read")]),
        ({"tool_calls": [{"index": True, "id": 7, "function": {"name": None}}]}, [Part(CALL)]),
        ({"tool_calls": [{"index": 0, "extra_content": GOOGLE}]}, [Part(CALL, place=0, signature="EqSigned")]),
        ({"tool_calls": [{"function": {"provider_specific_fields": GOOGLE["google"]}}]}, [Part(CALL, signature="EqSigned")]),
        ({"tool_calls": ["x", None, 7]}, []),
    ],
)  # fmt: skip
def test_parts(said, found):
    """Thinking, text, a refusal and calls are yielded in this order, from any provider's field; invalid values are skipped."""
    assert [*parts(said)] == found


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["function", "index", "id", "name", "arguments", "text", "extra_content", "google"]), inner
        )
    ),
    max_leaves=10,
)
NAMES = st.sampled_from(["content", "reasoning", "reasoning_content", "refusal", "tool_calls", "function_call"])


@given(st.dictionaries(NAMES, ODD))
def test_whatever_a_provider_sends(said):
    """Every yielded part is valid."""
    for part in parts(said):
        assert part.kind in (TEXT, THINKING, CALL)
        assert all(isinstance(one, str) for one in (part.text, part.id, part.name, part.signature))
        assert part.place is None or type(part.place) is int
        assert part.text or part.kind == CALL
