"""The checks of texts (check/dotenv_text.py, check/yaml_text.py, check/client_file.py): any text has findings or none."""

import json
from dataclasses import replace

import hypothesis
import pytest
import yaml
from hypothesis import strategies as st
from test_check import facts

from claude_proxy.check import dotenv_text, variables, yaml_text
from claude_proxy.check.client_file import read_client_file
from claude_proxy.check.facts import read_dotenv

# Cannot be a variable's name, which may be shown.
CANARY = "Canary0/Canary1/Canary2"
PIECES = st.sampled_from(
    ["A_KEY", "PORT", "=", ": ", " ", "\n", "\t", "  ", "- ", '"', "'", "{", "}", "[", "]", ",", ";", "#", "$", "${", "\\",
     "//", "\u00a0", "\u201c", "*", "&", "|", "export ", "set ", "env", "model_list", "\r\n", "\ufeff", CANARY,
     f"sk-ant-oat01-{CANARY}"]
)  # fmt: skip
TEXTS = st.lists(PIECES | st.text(max_size=3), max_size=14).map("".join)


def shown(findings):
    return "\n".join(map(str, findings))


@hypothesis.settings(max_examples=150)
@hypothesis.example(text="\r0\rA_KEY")
@hypothesis.given(text=TEXTS)
def test_any_dotenv(tmp_path_factory, text):
    """Each line of any .env is read or explained, and no part of a value is shown."""
    path = tmp_path_factory.mktemp("dotenv") / ".env"
    path.write_bytes(text.encode("utf-8", "replace"))
    given = replace(facts(), dotenv=read_dotenv(path))
    findings = [*dotenv_text.lines(given), *variables.names_in_dotenv(given)]
    assert CANARY not in shown(findings)


@hypothesis.settings(max_examples=150)
@hypothesis.example(text="\x85{A_KEY")
@hypothesis.example(text='\x85"')
@hypothesis.given(text=TEXTS)
def test_any_yaml(text):
    """A text that is not YAML has a cause in one of its lines, or none; no part of a value is shown."""
    found = yaml_text.cause_of(text)
    try:
        yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.parser.ParserError:
        assert found is not None
    except (yaml.YAMLError, ValueError):
        pass
    if found:
        assert 1 <= found.line <= text.count("\n") + 1
        assert CANARY not in str(found)
    [*yaml_text.characters(replace(facts(), config_text=text))]


@hypothesis.settings(max_examples=150)
@hypothesis.given(text=TEXTS)
def test_any_client_file(tmp_path_factory, text):
    """A settings.json that is not JSON has one problem, and no part of it is shown."""
    path = tmp_path_factory.mktemp("client") / "settings.json"
    path.write_bytes(text.encode("utf-8", "replace"))
    found = read_client_file(path)
    try:
        json.loads(text)
    except ValueError:
        assert found.problems
        assert CANARY not in shown(found.problems)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a:\n  b: 1\n   c: 2\n", 3, "is indented by 3 spaces"),
        ("a: b: c\n", 1, "has two values in one line"),
        ("a: @x\n", 1, "has a value that starts with @"),
        ("a: {b: 1\nc: 2\n", 1, "opens a { that is not closed"),
        ("a: 1\n---\nb: 2\n", 2, "is ---, which starts a second document"),
        ("a: [", 1, "opens a bracket that is not closed"),
        ("a:\n  - $MY_KEY: {\n", 2, "names the variable MY_KEY"),
        (f"a: ${CANARY}: {{\n", 1, "has two values"),
    ],
)
def test_the_cause_of_a_text_that_is_not_yaml(text, line, says):
    """It names the line to look at and the reason."""
    found = yaml_text.cause_of(text)
    assert found is not None
    assert found.line == line
    assert says in found.problem


def test_a_text_that_is_yaml():
    """It has no cause, and neither has a text whose error has no line."""
    assert yaml_text.cause_of("a: 1\n") is None
    assert yaml_text.cause_of("a: \x00") is None
