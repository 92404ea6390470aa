"""No regular expression takes squared time: no two unbounded repeats meet, and none that searches begins with one."""

import ast
import importlib
import pkgutil
import re
import string
from pathlib import Path
from re import _parser as parser  # type: ignore[attr-defined]

import pytest

import claude_proxy

ROOT = Path(claude_proxy.__file__).parent
ALPHABET = string.printable + "\x00\x85\xa0\xe9"
# Patterns over what an operator writes, which no client and no upstream can choose.
OPERATORS = {
    r"\s*=\s*",  # the lists of tokens in the environment
    r"[ \t]*=[ \t]*",  # the list of users in the environment
    r"(?P<export>export\s+)?(?P<name>[^\s=#'\"][^\s=]*)(?P<before>\s*)=(?P<after>[^\S\n]*)(?P<value>.*)",  # a line of .env
    r"#\s*since (\d{4}-\d{2}-\d{2})\s*$",  # the users file
    r"^\s*binaryTargets\s*=.*\n",  # LiteLLM's schema of its database
    r"\w+://[^:/@]*:(?P<password>[^/]+)@",  # an address in the environment
}


def compiled():
    """Every pattern that a module holds, with where it stands."""
    for module in pkgutil.walk_packages([str(ROOT)], "claude_proxy."):
        if module.name in ("claude_proxy.litellm.app", "claude_proxy.__main__"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            for one in value if isinstance(value, tuple) else (value,):
                if isinstance(one, re.Pattern):
                    yield f"{module.name}.{name}", one.pattern, one.flags


def written():
    """Every pattern that stands in a call of the module ``re``."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if not called or getattr(node.func.value, "id", "") != "re" or node.func.attr == "compile":
                continue
            if isinstance(node.args[0], ast.Constant):
                yield f"{path.name}:{node.lineno} {node.func.attr}", node.args[0].value, 0


PATTERNS = sorted({(place, pattern, flags) for place, pattern, flags in (*compiled(), *written())}, key=str)


def fault(pattern, flags=0):
    """What can make a pattern slow, in words; None for one that is not."""
    flags = flags & ~re.UNICODE if isinstance(pattern, bytes) else flags
    items = flat(parser.parse(pattern, flags & ~re.DEBUG))
    if len(items) > 1 and is_unbounded(items[0]):
        return "begins with an unbounded repeat"
    for place, item in enumerate(items):
        if not is_unbounded(item):
            continue
        inner = flat(item[1][2])
        if len(inner) > 1 and is_unbounded(inner[-1]) and characters(inner[-1]) & characters(inner[0]):
            return "repeats what ends with a repeat"
        for other in items[place + 1 :]:
            if is_unbounded(other) and characters(item) & characters(other):
                return "has two unbounded repeats side by side"
            if not may_be_empty(other):
                break
    return None


def flat(parsed):
    """The items of a pattern in their order, groups opened; a branch and a repeated group stay one item."""
    items = []
    for op, value in parsed:
        if op is parser.SUBPATTERN:
            items += flat(value[3])
        elif op not in (parser.AT, parser.ASSERT, parser.ASSERT_NOT):
            items.append((op, value))
    return items


def is_unbounded(item):
    op, value = item
    return op in (parser.MAX_REPEAT, parser.MIN_REPEAT) and value[1] is parser.MAXREPEAT


def may_be_empty(item):
    op, value = item
    return op in (parser.MAX_REPEAT, parser.MIN_REPEAT) and value[0] == 0


def characters(item):
    """The characters of the alphabet with which an item can begin; all of them where that is not one set."""
    op, value = item
    inner = flat(value[2]) if op in (parser.MAX_REPEAT, parser.MIN_REPEAT) else [item]
    if not inner or may_be_empty(inner[0]):
        return {*ALPHABET}
    op, value = inner[0]
    if op in (parser.MAX_REPEAT, parser.MIN_REPEAT):
        return characters(inner[0])
    match op:
        case parser.LITERAL:
            return {chr(value)}
        case parser.NOT_LITERAL:
            return {*ALPHABET} - {chr(value)}
        case parser.IN:
            return members(value)
    return {*ALPHABET}


CATEGORIES = {
    "CATEGORY_SPACE": str.isspace,
    "CATEGORY_DIGIT": str.isdigit,
    "CATEGORY_WORD": lambda one: one.isalnum() or one == "_",
}


def members(parts):
    found, negated = set(), False
    for op, value in parts:
        if op is parser.NEGATE:
            negated = True
        elif op is parser.LITERAL:
            found.add(chr(value))
        elif op is parser.RANGE:
            found |= {one for one in ALPHABET if value[0] <= ord(one) <= value[1]}
        else:
            name = str(value)
            test = CATEGORIES[name.replace("_NOT", "")]
            found |= {one for one in ALPHABET if test(one) != ("_NOT" in name)}
    return {*ALPHABET} - found if negated else found


@pytest.mark.parametrize(("place", "pattern", "flags"), PATTERNS, ids=[place for place, _, _ in PATTERNS])
def test_no_pattern_is_slow(place, pattern, flags):
    """A pattern that a client or an upstream can meet reads each character a bounded number of times."""
    anchored = place.endswith((" fullmatch", " match")) or place.rpartition(".")[2] in ANCHORED
    found = fault(pattern, flags)
    assert found is None or pattern in OPERATORS or (anchored and found == "begins with an unbounded repeat")


# By name: patterns that are only ever asked to fit a whole text, which begins at its beginning.
ANCHORED = {"_WINDOW_NAME", "_DATED", "_LINE", "ALMOST_REFERENCE"}


@pytest.mark.parametrize("name", sorted(ANCHORED))
def test_anchored_patterns_only_fit_whole_texts(name):
    """What is allowed to begin with a repeat is used by ``match`` and ``fullmatch`` alone."""
    used = set()
    for path in ROOT.rglob("*.py"):
        used |= {*re.findall(rf"\b{name}\.([a-z]+)\(", path.read_text(encoding="utf-8"))}
    assert used
    assert used <= {"match", "fullmatch"}


SLOW = [r"\s*,\s*(?=x)", r"a\s*\s*b", r"(a\w*)-?(\w*)", r"x[a-z]*\d*[a-f]+", r"b.*x?.*", r"a(?:b+c*b+)+"]


@pytest.mark.parametrize("pattern", SLOW)
def test_a_slow_pattern_is_found(pattern):
    """The look finds what it is for."""
    assert fault(pattern)


@pytest.mark.parametrize("pattern", [r",\s*x", r"a\s*,\s*b", r"x[a-z]*[0-9]*", r"(?:\r\n|\n)a+", r"a[a-z]+(?:\.[a-z]+)+"])
def test_a_pattern_in_proportion_is_none(pattern):
    """The look leaves other patterns alone."""
    assert fault(pattern) is None
