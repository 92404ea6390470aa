"""What a terminal shows after a program has written to it: the text of its screen, without colours. Small.

It knows the control sequences that Claude Code sends: the cursor, erasing, scrolling. All others change no text.
"""

import re
import unicodedata

# One control sequence, or the beginning of one that has not been read to its end.
SEQUENCE = re.compile(
    r"\x1b(?:\[(?P<private>[<=>?]?)(?P<numbers>[0-9;:]*)[ -/]*(?P<final>[@-~])"
    r"|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()*+].|(?P<short>[^\[\]()*+]))",
    re.DOTALL,
)
NO_BREAK = "\xa0"
BEHIND = "\0"  # the second column of a wide character


class Screen:
    """A grid of characters. Rows and columns count from 0."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self._rest = b""
        self._text = ""
        self._clear()

    def _clear(self) -> None:
        self.lines = [[" "] * self.columns for _ in range(self.rows)]
        self.row = self.column = 0
        self._saved = (0, 0)
        self._top, self._bottom = 0, self.rows - 1

    @property
    def text(self) -> str:
        """The lines of the screen, without blanks at their ends."""
        return "\n".join("".join(line).replace(BEHIND, "").rstrip() for line in self.lines)

    def feed(self, part: bytes) -> None:
        data = self._rest + part
        # A character of several bytes may come in two parts.
        whole = data.decode("utf-8", "ignore")
        kept = len(data) - len(whole.encode()) if len(data) - len(whole.encode()) < 4 else 0
        self._rest = data[len(data) - kept :] if kept else b""
        text, at = self._text + whole, 0
        while at < len(text):
            if text[at] != "\x1b":
                self._put(text[at])
                at += 1
                continue
            found = SEQUENCE.match(text, at)
            if found is None:
                break
            if found["final"]:
                self._control(found["private"], found["numbers"], found["final"])
            elif found["short"]:
                self._short(found["short"])
            at = found.end()
        self._text = text[at:]

    def _put(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self._down()
        elif character == "\b":
            self.column = max(0, self.column - 1)
        elif character == "\t":
            self.column = min(self.columns - 1, self.column // 8 * 8 + 8)
        elif (character := " " if character == NO_BREAK else character).isprintable() and not unicodedata.combining(character):
            width = 2 if unicodedata.east_asian_width(character) in "WF" else 1
            if self.column + width > self.columns:
                self.column = 0
                self._down()
            self.lines[self.row][self.column : self.column + width] = [character, BEHIND][:width]
            self.column += width

    def _down(self) -> None:
        if self.row == self._bottom:
            self._scroll(1)
        else:
            self.row = min(self.rows - 1, self.row + 1)

    def _scroll(self, count: int, top: int | None = None) -> None:
        """Move the lines between ``top`` and the bottom up, or down for a negative count."""
        start = self._top if top is None else top
        part = self.lines[start : self._bottom + 1]
        blank = [[" "] * self.columns for _ in range(min(abs(count), len(part)))]
        self.lines[start : self._bottom + 1] = [*part[count:], *blank] if count > 0 else [*blank, *part[:count]]

    def _short(self, final: str) -> None:
        if final == "7":
            self._saved = self.row, self.column
        elif final == "8":
            self.row, self.column = self._saved
        elif final == "M":
            if self.row == self._top:
                self._scroll(-1)
            else:
                self.row -= 1

    def _control(self, private: str, numbers: str, final: str) -> None:
        if private:
            if private == "?" and "1049" in numbers.split(";"):  # the other screen of a terminal, which is empty
                self._clear()
            return
        given = [int(number) if number.isdigit() else 0 for number in numbers.split(";")]
        count = given[0] or 1
        if final in "ABCDEFGHdf":
            self._move(final, count, (given[1] if len(given) > 1 else 0) or 1)
        elif final == "J":
            self._erase(given[0])
        elif final == "K":
            start, end = ((self.column, self.columns), (0, self.column + 1), (0, self.columns))[given[0]]
            self.lines[self.row][start:end] = [" "] * (min(end, self.columns) - start)
        elif final == "X":
            end = min(self.columns, self.column + count)
            self.lines[self.row][self.column : end] = [" "] * (end - self.column)
        elif final in "LMST":
            self._scroll(count if final in "MS" else -count, self.row if final in "LM" else None)
        elif final == "r":
            self._top, self._bottom = count - 1, (given[1] if len(given) > 1 and given[1] else self.rows) - 1
            self.row = self.column = 0

    def _move(self, final: str, count: int, second: int) -> None:
        row, column = self.row, min(self.column, self.columns - 1)
        row += {"A": -count, "B": count, "E": count, "F": -count}.get(final, 0)
        column += {"C": count, "D": -count}.get(final, 0)
        if final in "EF":
            column = 0
        elif final == "G":
            column = count - 1
        elif final == "d":
            row = count - 1
        elif final in "Hf":
            row, column = count - 1, second - 1
        self.row, self.column = max(0, min(self.rows - 1, row)), max(0, min(self.columns - 1, column))

    def _erase(self, what: int) -> None:
        blank = [" "] * self.columns
        if what == 0:
            self.lines[self.row][self.column :] = [" "] * (self.columns - min(self.column, self.columns))
            self.lines[self.row + 1 :] = [[*blank] for _ in range(self.row + 1, self.rows)]
        elif what == 1:
            self.lines[: self.row] = [[*blank] for _ in range(self.row)]
            self.lines[self.row][: self.column + 1] = [" "] * (self.column + 1)
        else:
            self.lines = [[*blank] for _ in range(self.rows)]
