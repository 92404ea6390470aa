"""check/watcher.py: when a change is read, what is taken up, and what is said about it."""

import asyncio
import logging
import os
from pathlib import Path

import pytest
import yaml

from claude_proxy.check import watcher
from claude_proxy.check.watcher import Change, NotTakenUp, Watcher, change, signature
from claude_proxy.config import backup, models

EXAMPLE = (Path(__file__).parent.parent / "config.yaml.example").read_text(encoding="utf-8")
MODEL = {"model_name": "glm", "litellm_params": {"model": "anthropic/glm"}}
OTHER = {"model_name": "kimi", "litellm_params": {"model": "anthropic/kimi", "api_key": "os.environ/KIMI_API_KEY"}}
SECTIONS = {
    "litellm_settings": {"callbacks": [models.CALLBACK]},
    "general_settings": {"custom_auth": models.CUSTOM_AUTH},
}
FIRST = {"model_list": [MODEL], **SECTIONS}
SECOND = {"model_list": [MODEL, OTHER], **SECTIONS}
LIMITED = FIRST | {"claude_proxy": {"users": {"anna": {"models": ["glm"]}, "ben": {"models": ["glm"]}}}}


@pytest.fixture
def watched(tmp_path):
    """A watcher over FIRST, which is in force, and the list of what was taken up."""
    return Watched(tmp_path)


class Watched:
    def __init__(self, folder):
        self.path = folder / "config.yaml"
        self.taken = []
        self.answer = lambda: ()
        self.active_config = models.ActiveConfig(FIRST, {})
        self.write(FIRST)
        self.watcher = Watcher(self.path, self.active_config, self.take_up, folder / "state" / "good.yaml", {})
        self.look()

    def take_up(self, new, found):
        self.taken.append((new, found))
        return self.answer()

    def write(self, content):
        part = self.path.with_suffix(".new")
        part.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        part.replace(self.path)

    def look(self, times=2):
        for _ in range(times):
            if self.watcher.has_changed():
                self.watcher.apply(self.watcher.read())


@pytest.fixture
def told(caplog):
    own = logging.getLogger("claude_proxy")
    own.propagate = True
    caplog.set_level(logging.INFO, "claude_proxy")
    return lambda: [f"{record.levelname} {record.getMessage()}" for record in caplog.records]


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ({}, {}, Change()),
        (FIRST, SECOND, Change(added=("kimi",))),
        (SECOND, FIRST, Change(removed=("kimi",))),
        (FIRST, FIRST | {"model_list": [MODEL | {"model_info": {}}]}, Change(changed=("glm",))),
        (FIRST, FIRST | {"model_list": [MODEL, MODEL]}, Change(changed=("glm",))),
        (
            {},
            {"router_settings": {"fallbacks": [], "routing_strategy": "x"}},
            Change(settings=("fallbacks",), restart=("router_settings: routing_strategy",)),
        ),
        (FIRST, FIRST | {"litellm_settings": {}, "new": 1}, Change(restart=("litellm_settings",))),
        (LIMITED, FIRST, Change(own=("users",), unlimited=("anna", "ben"))),
        (
            LIMITED,
            FIRST | {"claude_proxy": {"users": {"ben": {"models": ["*"]}}}},
            Change(own=("users",), unlimited=("anna",)),
        ),
    ],
)
def test_what_is_different(old, new, found):
    """Models and people are told by name; of the known settings it is told which count at once, and which after a restart."""
    assert change(old, new) == found


def test_a_change_is_read_when_the_file_keeps_still(watched):
    """A file that changes between two looks is half-written perhaps, so it is read at the look that finds it unchanged."""
    watched.write(SECOND)
    watched.look(1)
    assert watched.taken == []
    watched.write(SECOND | {"extra": 1})
    watched.look(1)
    assert watched.taken == []
    watched.look(1)
    assert [new for new, _ in watched.taken] == [SECOND | {"extra": 1}]
    watched.look(5)
    assert len(watched.taken) == 1


def test_what_is_taken_up_is_in_force(watched, told):
    """The models that lack a variable are those of the new file, and the log says what has changed."""
    watched.write(SECOND)
    watched.look()
    assert watched.active_config.loaded == SECOND
    assert watched.active_config.unset == {"kimi": ("KIMI_API_KEY",)}
    assert told()[0] == "INFO config.yaml is reloaded: added: kimi"
    assert "model kimi is not ready: KIMI_API_KEY not set; changes of .env need a restart" in told()[1]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("model_list: [", "line 1: is not YAML: opens a bracket that is not closed"),
        (FIRST | {"model_list": []}, "model_list: should hold at least one model"),
        (FIRST | {"general_settings": {}}, "custom_auth should be"),
        (FIRST | {"litellm_settings": {}}, "callbacks should name"),
        (FIRST | {"users": {"anna": {"models": ["glm"]}}}, "users: belongs under claude_proxy"),
    ],
)
def test_a_broken_file_is_refused(watched, told, content, says):
    """What would stop a start changes nothing, be it bad YAML or a rule's missing part; once mended it is taken up."""
    watched.write(content)
    watched.look()
    assert (watched.taken, watched.active_config.loaded) == ([], FIRST)
    (line,) = told()
    assert line.startswith("ERROR")
    assert says in line
    assert "the proxy keeps its current configuration" in line
    watched.write(SECOND)
    watched.look()
    assert watched.active_config.loaded == SECOND


def test_what_litellm_refuses_is_not_in_force(watched, told):
    """The file of a refused change is not the last good one, either."""

    def refuse():
        raise NotTakenUp("not as LiteLLM wants it")

    watched.answer = refuse
    watched.write(SECOND)
    watched.look()
    assert watched.active_config.loaded == FIRST
    assert "not as LiteLLM wants it; not applied" in told()[0]
    assert yaml.safe_load(watched.watcher.copy.read_text()) == FIRST


def test_what_needs_a_restart_is_said(watched, told):
    """A section that is read at the start only is named."""
    watched.write(SECOND | {"litellm_settings": SECTIONS["litellm_settings"] | {"drop_params": True}})
    watched.look()
    assert "WARNING config.yaml: needs a restart to apply: litellm_settings" in told()


def test_what_the_checks_find_is_said(watched, told):
    """A change that works and has a mistake in it is taken up, and the mistake is told with its line."""
    watched.answer = lambda: ["model m was left out"]
    watched.write("model_list:\n- {model_name: m, litellm_params: {model: anthropc/x}}\n" + yaml.safe_dump(SECTIONS))
    watched.look()
    assert "ERROR config.yaml: model m was left out" in told()
    assert any("config.yaml line 2: anthropc is not a provider" in line for line in told())


def test_a_file_with_include(watched, told):
    """LiteLLM reads the other files at its start only, so nothing is taken up that would lose their models."""
    watched.write(SECOND | {"include": ["more.yaml"]})
    watched.look()
    assert (watched.taken, watched.active_config.loaded) == ([], FIRST)
    assert "WARNING config.yaml: has include, so its changes need a restart" in told()


def test_the_same_again_is_nothing_new(watched, told):
    """A file that was only touched, or whose comments have changed, is not taken up."""
    watched.write("# a comment\n" + yaml.safe_dump(FIRST))
    watched.look()
    assert (watched.taken, told()) == ([], [])


@pytest.mark.parametrize("broken", ["model_list: [", FIRST | {"model_list": []}, None])
def test_a_file_that_is_mended(watched, told, broken):
    """After a refused file, or none, it is said once that the file is again what is in force; a new one is merely taken up."""
    if broken is None:
        watched.path.unlink()
    else:
        watched.write(broken)
    watched.look()
    watched.write("# mended\n" + yaml.safe_dump(FIRST))
    watched.look()
    watched.write("# touched\n" + yaml.safe_dump(FIRST))
    watched.look()
    assert told()[1:] == ["INFO config.yaml is valid again; nothing has changed"]
    watched.write("model_list: [")
    watched.look()
    watched.write(SECOND)
    watched.look()
    assert sum("valid again" in line for line in told()) == 1


def test_what_litellm_refused_is_mended(watched, told):
    """A change that LiteLLM refused is no different from a broken file when it is undone."""

    def refuse():
        raise NotTakenUp("not as LiteLLM wants it")

    watched.answer = refuse
    watched.write(SECOND)
    watched.look()
    watched.write(FIRST)
    watched.look()
    assert told()[1:] == ["INFO config.yaml is valid again; nothing has changed"]


def test_limits_that_are_gone(watched, told):
    """A user who loses limits by a change is named. A limited name without a user is reported, and gains no models."""
    watched.watcher.environ = {"PROXY_USER_TOKENS": "anna=made-up-token-of-anna"}
    watched.write(LIMITED)
    watched.look()
    assert any("no user is called ben" in line for line in told())
    assert not any("no user is called anna" in line or "are removed" in line for line in told())
    watched.write(FIRST)
    watched.look()
    assert "WARNING config.yaml: the limits of anna are removed: these users may use every model" in told()
    assert not any("are removed" in line and "ben" in line for line in told())


def test_a_file_that_goes_away_and_comes_back(watched, told):
    """Without a file the proxy goes on, and says so once; the next one is read."""
    watched.path.unlink()
    watched.look(4)
    assert told() == ["WARNING config.yaml was removed; the proxy keeps its current configuration"]
    watched.write(SECOND)
    watched.look()
    assert watched.active_config.loaded == SECOND


def test_the_last_good_copy(watched):
    """The copy is what is in force, for its owner alone; a refused file does not reach it."""
    copy = watched.watcher.copy
    assert yaml.safe_load(copy.read_text()) == FIRST
    assert copy.stat().st_mode & 0o777 == 0o600
    watched.write("model_list: [")
    watched.look()
    assert yaml.safe_load(copy.read_text()) == FIRST
    watched.write(SECOND)
    watched.look()
    assert yaml.safe_load(copy.read_text()) == SECOND


@pytest.mark.parametrize("text", ["model_list: [broken", "model_list: []", "\udcff"])
def test_what_was_not_checked_is_not_kept(watched, text):
    """A file that changed between the check and the copy is not the last good one."""
    facts = watched.watcher.read()
    watched.path.write_text(text, encoding="utf-8", errors="surrogateescape")
    watched.watcher.apply(facts)
    assert yaml.safe_load(watched.watcher.copy.read_text()) == FIRST


def test_a_copy_that_cannot_be_written(watched, told):
    """It is said once, and changes are taken up nevertheless."""
    watched.watcher.copy = watched.path / "no-folder" / "good.yaml"
    watched.write(SECOND)
    watched.look()
    watched.write(FIRST)
    watched.look()
    assert len(watched.taken) == 2
    assert sum("cannot be written" in line for line in told()) == 1


def test_a_file_is_known_by_what_is_behind_a_link(tmp_path):
    """In Docker config.yaml is a link into a mounted folder: a file that is replaced there is noticed."""
    folder = tmp_path / "project"
    folder.mkdir()
    link = tmp_path / "config.yaml"
    link.symlink_to(folder / "config.yaml")
    assert signature(link) is None
    (folder / "config.yaml").write_text("a")
    before = signature(link)
    (folder / "new").write_text("b")
    os.utime(folder / "new", ns=(before[2], before[2]))
    (folder / "new").replace(folder / "config.yaml")
    assert signature(link) not in (None, before)


def test_something_unforeseen_does_not_end_the_watch(watched, told, monkeypatch):
    """The next change is taken up even when the last one broke something that nobody thought of."""
    monkeypatch.setattr(watcher, "LOOK_SECONDS", 0)

    async def watch():
        done = asyncio.Event()

        def broken():
            watched.answer = works
            watched.write(SECOND | {"extra": 1})
            raise RuntimeError("unforeseen")

        def works():
            done.set()
            return ()

        watched.answer = broken
        watched.write(SECOND)
        task = asyncio.ensure_future(watched.watcher.run())
        await done.wait()
        task.cancel()

    asyncio.run(asyncio.wait_for(watch(), 60))
    assert [new.get("extra") for new, _ in watched.taken] == [None, 1]
    assert any("is not applied: an internal error" in line for line in told())


def test_who_is_watched(tmp_path):
    """The launcher names the file; a proxy that was started in another way watches none."""
    active_config = models.ActiveConfig({}, {})
    assert watcher.watcher(active_config, lambda *_: (), {}) is None
    found = watcher.watcher(active_config, lambda *_: (), {backup.WATCHED: "/a/config.yaml", backup.VARIABLE: "/b/c.yaml"})
    assert (found.path, found.copy) == (Path("/a/config.yaml"), Path("/b/c.yaml"))


def test_the_example_is_read_as_it_is(watched, told):
    """The example is a file that can be taken up, with nothing to complain about but the keys that are not set."""
    watched.write(EXAMPLE)
    watched.look()
    assert watched.active_config.loaded == yaml.safe_load(EXAMPLE)
    assert all("is not ready" in line for line in told()[1:] if "restart to apply" not in line)


def test_what_people_may_use_is_taken_up():
    """A change of the project's own section needs no restart, is told, and counts for the next request."""
    new = models.ActiveConfig({"model_list": []}, {})
    assert new.limits.allows("anna", "glm")
    loaded = {"model_list": [], "claude_proxy": {"users": {"anna": {"models": ["demo"]}}}}
    found = change({"model_list": []}, loaded)
    assert (found.own, found.restart, str(found)) == (("users",), (), "claude_proxy: users")
    new.replace(loaded)
    assert not new.limits.allows("anna", "glm")
