"""litellm/quiet.py: what LiteLLM prints at its start."""

import sys
import types

from claude_proxy.litellm.quiet import StartOutput


def printing(name):
    """A module of that name with a function that prints."""
    module = types.ModuleType(name)
    exec("def say(words): print(words)", vars(module))
    return module.say


def test_litellms_prints_are_dropped(capsys):
    """At the start LiteLLM's own modules print nothing; every other module's words pass, and afterwards all do."""
    litellm, other = printing("litellm.proxy.proxy_server"), printing("litellm_callback_of_a_team")
    before = sys.stdout
    with StartOutput.in_place() as output:
        litellm("banner")
        other("words of a callback")
        output.pass_all()
        litellm("a code for a login")
        sys.stdout.flush()
    assert sys.stdout is before
    assert capsys.readouterr().out == "words of a callback\na code for a login\n"
