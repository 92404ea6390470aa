"""A program in a terminal of its own, and a picture of what it shows: the bytes go to xterm.js in a headless browser."""

import fcntl
import json
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import termios
import time
from pathlib import Path

from playwright.sync_api import Browser
from png import reduce_colours

FOLDER = Path(__file__).parent
XTERM = FOLDER / "node_modules/@xterm/xterm"
# A control sequence, which moves the cursor or sets a colour.
CONTROL = re.compile(rb"\x1b(?:\[[0-9;?<>=]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][A-Z0-9]|[=>78])")
BACKGROUND, MARGIN = "#16181d", 14
PAGE = f"""<body style="margin:0;background:{BACKGROUND}">
<div id="screen" style="display:inline-block;padding:{MARGIN}px"></div></body>"""
OPTIONS = {
    "fontFamily": "DejaVu Sans Mono", "fontSize": 14, "lineHeight": 1.15, "scrollback": 0, "cursorInactiveStyle": "none",
    "theme": {"background": BACKGROUND, "foreground": "#d8dbe2"},
}  # fmt: skip
DRAW = """async ([options, bytes]) => {
    const terminal = new Terminal(options);
    terminal.open(document.getElementById("screen"));
    await new Promise(done => terminal.write(Uint8Array.from(bytes), done));
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    const buffer = terminal.buffer.active;
    const line = row => buffer.getLine(buffer.viewportY + row).translateToString(true);
    return Array.from({length: options.rows}, (_, row) => line(row));
}"""


def install() -> None:
    """Install xterm.js from its lock."""
    locked = json.loads((FOLDER / "package-lock.json").read_text(encoding="utf-8"))["packages"]["node_modules/@xterm/xterm"]
    package = XTERM / "package.json"
    if not package.exists() or json.loads(package.read_text(encoding="utf-8"))["version"] != locked["version"]:
        subprocess.run([shutil.which("npm") or "npm", "ci", "--silent"], cwd=FOLDER, check=True)


class Terminal:
    """Start a program, wait for words on its screen, end it."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.columns, self.rows = 92, 24
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", self.rows, self.columns, 0, 0))
        colours = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment | colours, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self.output = b""

    @property
    def words(self) -> str:
        """What was written so far, without blanks: a program may move the cursor where a blank would be."""
        return re.sub(r"\s+", "", CONTROL.sub(b"", self.output).decode(errors="replace"))

    def wait_for(self, words: str, seconds: float = 90) -> None:
        """Read until the words were written, and then until the program is quiet; raise where the words do not come."""
        wanted, end = re.sub(r"\s+", "", words), time.monotonic() + seconds
        while wanted not in self.words:
            if not self._read(1) and (self.process.poll() is not None or time.monotonic() > end):
                raise RuntimeError(f"the terminal does not show {words!r}: {self.words[-2000:]}")
        while self._read(1.5) and time.monotonic() < end:
            pass

    def send(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        try:
            part = os.read(self._master, 65536)
        except OSError:  # the program has ended
            return False
        self.output += part
        return bool(part)

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self._master)


def draw(browser: Browser, terminal: Terminal, image: Path, until: re.Pattern[str]) -> str:
    """Draw the screen down to the line before the last one that fits ``until``; return the text in the picture."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_content(PAGE)
    page.add_style_tag(path=XTERM / "css/xterm.css")
    page.add_script_tag(path=XTERM / "lib/xterm.js")
    options = OPTIONS | {"cols": terminal.columns, "rows": terminal.rows}
    lines = page.evaluate(DRAW, [options, list(terminal.output)])
    end = next((number for number in reversed(range(len(lines))) if until.search(lines[number])), len(lines))
    while end and not lines[end - 1].strip():
        end -= 1
    box = page.locator(".xterm-screen").bounding_box()
    assert box
    height = box["height"] * end / terminal.rows + 2 * MARGIN
    page.screenshot(path=image, clip={"x": 0, "y": 0, "width": box["width"] + 2 * MARGIN, "height": height})
    page.close()
    reduce_colours(image)
    return "".join(f"{line.rstrip()}\n" for line in lines[:end])
