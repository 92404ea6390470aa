"""Simplifies tool schemas for providers of chat completions. Plain values, no I/O; bounded like the request."""

from typing import Any

EMPTY: dict[str, Any] = {"type": "object", "properties": {}}
# Keywords whose value is a schema, a list of schemas, or an object of schemas by names that the author chose.
_ONE = frozenset({"additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then"})
_MANY = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"})
# These do not affect validation, and some providers reject them.
_DROPPED = frozenset({"$schema", "$id", "$comment"})


def plain_schema(schema: object) -> dict[str, Any]:
    """Return the schema of a tool's input as an object schema; boolean schemas become their equivalent objects."""
    if not isinstance(schema, dict):
        return EMPTY
    made: dict[str, Any] = _plain(schema)
    if "type" not in made and not ({"$ref", *_MANY} & made.keys()):
        made = {"type": "object"} | made
    if made.get("type") == "object" and "properties" not in made:
        made |= {"properties": {}}
    return made


def _plain(schema: Any) -> Any:
    if schema is True:
        return {}
    if schema is False:
        return {"not": {}}
    if not isinstance(schema, dict):
        return schema
    made: dict[str, Any] = {}
    for name, value in schema.items():
        if name in _DROPPED:
            continue
        if name in _ONE:
            # `additionalProperties: false` is kept, because every provider accepts it.
            made[name] = value if name == "additionalProperties" and isinstance(value, bool) else _plain_one(value)
        elif name in _MANY and isinstance(value, list):
            made[name] = [_plain(each) for each in value]
        elif name in _NAMED and isinstance(value, dict):
            made[name] = {key: _plain(each) for key, each in value.items()}
        else:
            made[name] = value
    return made


def _plain_one(value: Any) -> Any:
    return [_plain(each) for each in value] if isinstance(value, list) else _plain(value)
