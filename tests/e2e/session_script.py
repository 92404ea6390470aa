"""A session of more than twenty turns: what the user asks and what a model says to it, once for every provider's format."""

import json
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dialects_upstream as strict
import upstream as up

Block = dict[str, Any]
OTHER, CLAUDE = "other", "claude"
PLAIN_PDF = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 72 72]>>endobj
trailer<</Root 1 0 R>>
%%EOF
"""
FOREIGN_THOUGHT, OWN_THOUGHT = "foreign thought", "claude thought"
SUMMARY = "we saw a made-up pixel"
# What Claude Code asks of the model that checks calls in auto mode, in either of two forms.
CHECKS = {"<block>": "<block>no</block>", "<severity>": "<severity>1</severity>"}


@dataclass(frozen=True)
class Step:
    """What a model says to one request, and a text that it must have been sent for that."""

    says: list[Block]
    sees: str = ""


@dataclass(frozen=True)
class Turn:
    prompt: str
    steps: list[Step]
    arguments: tuple[str, ...] = ()
    on: str = OTHER


def image() -> bytes:
    """A PNG of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))

    header = struct.pack("!IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\xff\0\0")) + chunk(b"IEND", b"")


def prepare(project: Path) -> None:
    """Put the files into the project that the session is about."""
    (project / "pixel.png").write_bytes(image())
    (project / "paper.pdf").write_bytes(PLAIN_PDF)
    (project / "notes.txt").write_text("apples\n", encoding="utf-8")


def bash(command: str) -> Block:
    return up.tool("Bash", {"command": command, "description": "Made up"})


def says(*parts: str | Block, sees: str = "") -> Step:
    return Step([up.text(part) if isinstance(part, str) else part for part in parts], sees)


def agent(task: str) -> Block:
    wanted = {"description": "Find it", "prompt": task, "subagent_type": "general-purpose", "run_in_background": False}
    return up.tool("Agent", wanted)


def turns(project: Path) -> list[Turn]:
    """The session. The one on Claude alone has the same turns, all of them on Claude."""

    def read(name: str) -> Block:
        return up.tool("Read", {"file_path": str(project / name)})

    notes = str(project / "notes.txt")
    edit = up.tool("Edit", {"file_path": notes, "old_string": "apples", "new_string": "pears"})
    write = up.tool("Write", {"file_path": str(project / "new.txt"), "content": "grün, 草\n"})
    allowed = ("--allowedTools", "Bash", "Edit", "Write", "Agent", "ToolSearch", "CronList")
    plan, auto = ("--permission-mode", "plan"), ("--permission-mode", "auto")
    return [
        Turn("Begin", [says("begun", sees="Begin")], on=CLAUDE),
        Turn("Read the notes", [says("I read", read("notes.txt")), says("apples it is", sees="apples")], allowed),
        Turn("Look at the pixel", [says(read("pixel.png")), says("a red pixel")], allowed),
        Turn("And now?", [says("still a red pixel", sees="a red pixel")], on=CLAUDE),
        Turn("Read the paper", [says("a moment", read("paper.pdf")), says("an empty page", sees="PDF file read")], allowed),
        Turn("And the image once more", [says(read("pixel.png")), says("it has not changed")], allowed, CLAUDE),
        Turn("Read the paper here", [says(read("paper.pdf")), says("still empty")], allowed, CLAUDE),
        Turn("Do three things at once", [
            says("all at once", read("notes.txt"), bash("echo o''ne"), bash("echo t''wo")), says("all three", sees="two"),
        ], allowed),
        Turn("And three more", [
            says(bash("echo th''ree"), bash("echo fo''ur"), read("notes.txt")), says("six by now", sees="three"),
        ], allowed, CLAUDE),
        Turn("Use an agent", [
            says(agent("Find the made-up number")), says("the number is 4711", sees="made-up number"),
            says("it found 4711", sees="the number is 4711"),
        ], allowed),
        Turn("Use another agent", [
            says("here", agent("Look closely")), says(bash("echo from the ag''ent")), says("done so", sees="from the agent"),
            says("the agent is done", sees="done so"),
        ], allowed, CLAUDE),
        Turn("Change apples to pears", [
            says(read("notes.txt")), says("I change it", edit), says(bash(f"cat {notes}")), says("pears it is", sees="pears"),
        ], allowed),
        Turn("Try what fails", [says(bash("echo brok''en; exit 3")), says("it failed", sees="broken")], allowed),
        Turn("Try it again", [says(bash("echo sti''ll broken; exit 4")), says("no", sees="still broken")], allowed, CLAUDE),
        Turn("Which jobs are there?", [
            says("I search", up.tool("ToolSearch", {"query": "select:CronList", "max_results": 3})),
            says(up.tool("CronList", {})), says("none", sees="No scheduled jobs"),
        ], allowed),
        Turn("Plan it", [says("first I look", read("notes.txt")), says("the plan: write a file", sees="Plan mode")], plan),
        Turn("Do it", [says(write), says("written: grün", sees="new.txt")], allowed, CLAUDE),
        Turn("Count by yourself", [says(bash("python3 -c 'print(6*7)'")), says("42", sees="42")], auto),
        Turn("Count once more", [says(bash("python3 -c 'print(6*8)'")), says("48", sees="48")], auto, CLAUDE),
        Turn("Say something long", [says("草 " * 2000 + "“quoted” \\ \n\tend")], on=OTHER),
        Turn("/compact", [says(f"<summary>{SUMMARY}</summary>")]),
        Turn("Go on", [says("going on", sees=SUMMARY)], on=CLAUDE),
        Turn("And a last look", [says(bash("cat new.txt")), says("the end is near", sees="grün")], allowed),
        Turn("Good bye", [says("bye", sees="the end is near")], on=CLAUDE),
    ]  # fmt: skip


@dataclass
class Models:
    """Every model of the session: each says the next step, in its provider's format, and refuses what that one refuses."""

    steps: list[Step] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    # The providers that were asked to check a call.
    checks: list[str] = field(default_factory=list)

    def answer(self, seen: up.Seen) -> up.Reply:
        if seen.method != "POST":
            return up.Reply(404)
        sent = strict.Sent(**vars(seen))
        if words := refused(sent):
            return self._complain(words)
        if check := self._check(sent):
            self.checks.append(sent.provider)
            return strict.reply(sent, up.text(check))
        if not self.steps:
            return self._complain(f"{sent.provider}: nothing more was planned")
        if self.steps[0].sees not in shown(sent):
            return self._complain(f"{sent.provider}: was not sent: {self.steps[0].sees}")
        step = self.steps.pop(0)
        is_claude = sent.provider == "claude"
        signature = f"{strict.CLAUDE_SIGNATURE}{len(self.steps)}==" if is_claude else f"{sent.provider}-signature"
        return strict.reply(sent, up.thinking(OWN_THOUGHT if is_claude else FOREIGN_THOUGHT, signature), *step.says)

    def _check(self, sent: strict.Sent) -> str | None:
        if sent.json.get("tools"):
            return None
        return next((said for mark, said in CHECKS.items() if "security monitor" in shown(sent) and mark in shown(sent)), None)

    def _complain(self, words: str) -> up.Reply:
        self.complaints.append(words)
        return up.anthropic_error(400, "invalid_request_error", words)


def refused(sent: strict.Sent) -> str | None:
    """Return what the provider has against a request. Claude joins turns of one role; Claude Code sends such after /compact."""
    if sent.provider != "claude":
        return strict.refused(sent)
    rules = [rule for rule in strict.CLAUDE if "roles must alternate" not in rule.words]
    return next((rule.words for rule in rules if rule.when(sent)), None)


def shown(sent: strict.Sent) -> str:
    """All texts of a request."""
    return json.dumps(sent.json, ensure_ascii=False)
