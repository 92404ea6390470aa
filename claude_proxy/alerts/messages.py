"""The texts of notifications. Plain functions."""

from collections.abc import Sequence
from typing import NamedTuple

from claude_proxy.alerts.firing import Notice
from claude_proxy.config.alerts import CRITICAL, INFO, WARNING, Alerts

# The maximum number of alerts in one message, and the maximum length of its title: services accept 250 characters and more.
MAX_NOTICES = 20
MAX_TITLE = 200
# What the services call the kinds of messages.
KINDS = {INFO: "info", WARNING: "warning", CRITICAL: "failure"}
OVER = "success"
# What chat services read as a tag, a mention of everyone or a link, and what is sent instead; texts contain names from outside.
_PLAIN = (("<", "("), (">", ")"), ("@everyone", "@ everyone"), ("@here", "@ here"), ("@channel", "@ channel"), ("](", "] ("))


class Message(NamedTuple):
    """One notification; ``kind`` is one of ``KINDS``' values or ``OVER``."""

    title: str
    body: str
    kind: str


TEST = "This is a test. The alerts of this proxy arrive here."


def messages(notices: Sequence[Notice], config: Alerts) -> list[tuple[Message, Sequence[Notice]]]:
    """Return the message about alerts that fire, and the one about those that are over, each with its notices."""
    found: list[tuple[Message, Sequence[Notice]]] = []
    for is_over in (False, True):
        chosen = [one for one in notices if one.is_over is is_over]
        if chosen:
            found.append((_message(chosen, config, is_over=is_over), chosen))
    return found


def trial(config: Alerts) -> Message:
    """Return the message of ``claude-proxy alerts test``."""
    return Message(f"{config.name}: test", _with_page([TEST], config), KINDS[INFO])


def _message(notices: Sequence[Notice], config: Alerts, *, is_over: bool) -> Message:
    first, count = notices[0].alert, len(notices)
    what = plain(first.text) if count == 1 else f"{count} alerts"
    title = f"{config.name}: {'over: ' if is_over else ''}{what}"
    lines = [line for one in notices[:MAX_NOTICES] for line in _lines(one)]
    if count > MAX_NOTICES:
        lines.append(f"And {count - MAX_NOTICES} more.")
    kind = OVER if is_over else KINDS[first.severity]  # the first is the most severe one
    return Message(_shortened(title), _with_page(lines, config), kind)


def _shortened(title: str) -> str:
    """Return a title of at most ``MAX_TITLE`` characters: cut at the end of a clause or of a word. The body has all of it."""
    if len(title) <= MAX_TITLE:
        return title
    most = title[: MAX_TITLE - 1]
    clause = max(most.rfind("; "), most.rfind(". "))
    if clause >= MAX_TITLE // 2:
        return most[:clause]
    word = most.rfind(" ")
    return f"{most[:word].rstrip(' ,:') if word >= MAX_TITLE // 2 else most}…"


def _lines(notice: Notice) -> list[str]:
    if notice.is_over:
        return [f"Over: {plain(notice.alert.text)}"]
    return [f"{notice.alert.severity.capitalize()}: {plain(notice.alert.text)}", f"What to do: {plain(notice.alert.action)}"]


def _with_page(lines: Sequence[str], config: Alerts) -> str:
    return "\n".join([*lines, *([config.page] if config.page else [])])


def plain(text: str) -> str:
    """Return a text in which chat services find no mention, link or format."""
    for found, instead in _PLAIN:
        text = text.replace(found, instead)
    return text
