"""openai/tool_schemas.py: tool schemas as providers of chat completions accept them."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.openai.tool_schemas import EMPTY, plain_schema


@pytest.mark.parametrize(
    ("schema", "plain"),
    [
        (None, EMPTY),
        (True, EMPTY),
        ({}, EMPTY),
        ({"$ref": "#/$defs/a", "$defs": {"a": True}}, {"$ref": "#/$defs/a", "$defs": {"a": {}}}),
        ({"anyOf": [{"type": "object"}, False]}, {"anyOf": [{"type": "object"}, {"not": {}}]}),
        ({"type": "array", "items": [True, {"$id": "x"}]}, {"type": "array", "items": [{}, {}]}),
        ({"properties": {"$id": {"default": True}}}, {"type": "object", "properties": {"$id": {"default": True}}}),
        ({"properties": {"a": {"const": {"$id": True}}}}, {"type": "object", "properties": {"a": {"const": {"$id": True}}}}),
        ({"required": ["a"], "properties": 7}, {"type": "object", "required": ["a"], "properties": 7}),
    ],
)
def test_schemas(schema, plain):
    """The outermost schema is an object's, inner boolean schemas are replaced, and the author's names and values stay."""
    assert plain_schema(schema) == plain


KEYS = st.sampled_from(["type", "$id", "$schema", "items", "anyOf", "properties", "not", "additionalProperties", "enum", "x"])
SCHEMAS = st.recursive(
    st.booleans() | st.none() | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(SCHEMAS)
def test_whatever_a_client_sends(schema):
    """Any schema becomes an object, a second pass changes nothing, and the client's schema is not modified."""
    before = copy.deepcopy(schema)
    made = plain_schema(schema)
    assert isinstance(made, dict)
    assert not {"$id", "$schema"} & set(made)
    assert plain_schema(made) == made
    assert schema == before
