"""providers/schemas.py: references in a tool's schema become copies, within limits."""

import pytest

from claude_proxy.providers import schemas
from claude_proxy.providers.bounds import TooLarge
from claude_proxy.providers.schemas import Budget, expanded

STRING = {"type": "string"}


def with_property(value, **more):
    return {"type": "object", "properties": {"a": value}, **more}


def bomb(levels, width=10):
    """Return a schema of a few kilobytes whose definitions each refer to the next one several times."""
    definitions = {
        f"d{place}": with_property({"anyOf": [{"$ref": f"#/$defs/d{place + 1}"}] * width}) for place in range(levels)
    }
    return with_property({"$ref": "#/$defs/d0"}, **{"$defs": definitions | {f"d{levels}": STRING}})


@pytest.mark.parametrize(
    ("schema", "wanted"),
    [
        (with_property(STRING), with_property(STRING)),
        (with_property({"$ref": "#/$defs/s"}, **{"$defs": {"s": STRING}}), with_property(STRING)),
        (with_property({"$ref": "#/definitions/s"}, definitions={"s": STRING}), with_property(STRING)),
        (with_property({"$ref": "#/$defs/s", "title": "t"}, **{"$defs": {"s": {}}}), with_property({"title": "t"})),
        (with_property({"$ref": "#/$defs/a~1b~0c%25"}, **{"$defs": {"a/b~c%": STRING}}), with_property(STRING)),
        (with_property({"$ref": "#/$defs/a%20b"}, **{"$defs": {"a b": STRING}}), with_property(STRING)),
        (with_property({"$ref": "#/$defs/s/anyOf/0"}, **{"$defs": {"s": {"anyOf": [STRING]}}}), with_property(STRING)),
        (with_property({"$ref": "#at"}, **{"$defs": {"s": {"$anchor": "at"}}}), with_property({"$anchor": "at"})),
        (with_property({"$ref": "#"}), with_property({"type": "object"})),
        (with_property({"$ref": "#/$defs/yes"}, **{"$defs": {"yes": True}}), with_property({})),
        (with_property({"$ref": "http://attacker.invalid/s", "title": "t"}), with_property({"title": "t"})),
        (with_property({"$ref": "other.json#/$defs/s"}, **{"$defs": {"s": STRING}}), with_property({})),
        (with_property({"$ref": "#/$defs/gone"}), with_property({})),
        (with_property({"$ref": "#/enum/99999999"}, enum=["x"]), with_property({}, enum=["x"])),
        ({"properties": {"definitions": STRING, "$defs": STRING}}, {"properties": {"definitions": STRING, "$defs": STRING}}),
        ({"properties": {"properties": {"definitions": {}}}}, {"properties": {"properties": {}}}),
        ({"$ref": "#/$defs/s", "$defs": {"s": STRING}}, STRING),
        ({"$ref": "#/enum", "enum": [1]}, {"enum": [1]}),
    ],
    ids=[
        "none", "defs", "definitions", "beside", "escapes", "percent", "into-a-list", "anchor", "itself", "boolean",
        "another-host", "another-document", "missing", "beyond-a-list", "properties-of-those-names",
        "a-property-of-that-name", "the-whole",
        "no-schema",
    ],
)  # fmt: skip
def test_a_reference(schema, wanted):
    """Each form of a reference becomes its target or the keywords beside it; definitions are removed."""
    before = repr(schema)
    assert expanded(schema, Budget()) == wanted
    assert repr(schema) == before


def test_a_recursive_schema_ends():
    """A recursive reference becomes an object schema."""
    tree = with_property({"items": {"$ref": "#/$defs/node"}})
    made = expanded({"$ref": "#/$defs/node", "$defs": {"node": tree}}, Budget())
    assert made == with_property({"items": {"type": "object"}})
    two = {"a": {"items": {"$ref": "#/$defs/b"}}, "b": {"items": {"$ref": "#/$defs/a"}}}
    assert expanded({"$ref": "#/$defs/a", "$defs": two}, Budget()) == {"items": {"items": {"type": "object"}}}


@pytest.mark.parametrize(
    "schema",
    [
        bomb(9),
        with_property({"default": {"definitions": {"a": {"x": [{"$ref": "#/properties/a/default/definitions/b"}] * 400}, "b": {
            "x": ["y"] * 400}}, "x": {"$ref": "#/properties/a/default/definitions/a"}}}),
        with_property({"anyOf": [{"$ref": "#/$defs/s"}] * 5000}, **{"$defs": {"s": {"const": "x" * 1000}}}),
        with_property({"anyOf": [{"$ref": "#/$defs/s"}] * 2000}, **{"$defs": {"s": {"$ref": "#/$defs/" + "x" * 3000}}}),
    ],
    ids=["values", "in-a-default", "characters", "long-pointers"],
)  # fmt: skip
def test_a_schema_that_multiplies_is_refused(schema):
    """A schema that would become too large is rejected before it is made, with the limit in the message."""
    with pytest.raises(TooLarge, match=r"too large after its references are expanded"):
        expanded(schema, Budget())


def test_a_chain_of_references_has_a_length():
    """A chain of references counts as nesting levels."""
    chain = {f"d{place}": {"$ref": f"#/$defs/d{place + 1}"} for place in range(5000)}
    with pytest.raises(TooLarge, match=rf"more than {schemas.MAX_DEPTH} levels"):
        expanded({"$ref": "#/$defs/d0", "$defs": chain}, Budget())
    deep = STRING
    for _ in range(schemas.MAX_DEPTH):
        deep = {"items": deep}
    with pytest.raises(TooLarge, match=rf"more than {schemas.MAX_DEPTH} levels"):
        expanded(deep, Budget())


def test_all_schemas_of_a_request_share_one_budget():
    """All schemas of a request share one limit."""
    budget, third = Budget(), bomb(4, 8)
    expanded(third, budget)
    with pytest.raises(TooLarge):
        [expanded(third, budget) for _ in range(10)]
