"""A picture of what a program shows in its terminal: the bytes go to xterm.js in a headless browser."""

import json
import re
import shutil
import subprocess
from pathlib import Path

from playwright.sync_api import Browser
from png import reduce_colours
from pseudo_terminal import Terminal

FOLDER = Path(__file__).parent
XTERM = FOLDER / "node_modules/@xterm/xterm"
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
