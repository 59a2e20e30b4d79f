"""Reads the little shell scripts that containers are started with: words, variables, `&&`. No effects.

What would have to be run to be known (loops, conditions, substitutions) is refused with the reason, as a ValueError.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::?([-=+?])([^{}]*))?\})")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_OPERATORS = re.compile(r"&&|\|\||;;|;|\n|[0-9]*>&[0-9-]|&>>?|[0-9]*>>?|<<<?|<|\||&|\(|\)")
_COMPOUND = frozenset(
    {"if", "then", "else", "elif", "fi", "for", "while", "until", "do", "done", "case", "esac", "function", "eval"}
    | {"trap", "{", "}", "!", "[", "[["}
)
_DOUBLE_ESCAPES = '$`"\\\n'


@dataclass
class Command:
    """One simple command."""

    words: list[str] = field(default_factory=list)
    joined: str = ""
    """The operator behind it: "&&", ";", "|", …, "" at the end."""
    redirected: bool = False


@dataclass
class _Scanner:
    text: str
    environment: Mapping[str, str]
    used: set[str]
    at: int = 0
    word: str | None = None
    commands: list[Command] = field(default_factory=lambda: [Command()])
    to_file: bool = False

    def run(self) -> list[Command]:
        while self.at < len(self.text):
            self._step()
        self._end_word()
        return [each for each in self.commands if each.words]

    def _step(self) -> None:
        here = self.text[self.at]
        if here == "\\":
            self._escape()
        elif here == "'":
            self._single()
        elif here == '"':
            self._double()
        elif here == "$":
            self._expand(quoted=False)
        elif here == "`":
            raise ValueError("it computes a part of its command line (`…`)")
        elif here == "#" and self.word is None:
            self.at = (self.text + "\n").index("\n", self.at)
        elif here in " \t\r":
            self._end_word()
            self.at += 1
        elif (found := _OPERATORS.match(self.text, self.at)) and (self.word is None or not found[0][0].isdigit()):
            self._operator(found[0])
        else:
            self._add(here)

    def _add(self, text: str, width: int = 1) -> None:
        self.word = (self.word or "") + text
        self.at += width

    def _escape(self) -> None:
        following = self.text[self.at + 1 : self.at + 2]
        if following == "\n":
            self.at += 2
        else:
            self._add(following or "\\", 2)

    def _single(self) -> None:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise ValueError("a quote is not closed")
        self._add(self.text[self.at + 1 : end], end + 1 - self.at)

    def _double(self) -> None:
        self._add("")
        while self.at < len(self.text) and (here := self.text[self.at]) != '"':
            if here == "\\" and self.text[self.at + 1 : self.at + 2] in _DOUBLE_ESCAPES:
                self._escape()
            elif here == "$":
                self._expand(quoted=True)
            elif here == "`":
                raise ValueError("it computes a part of its command line (`…`)")
            else:
                self._add(here)
        if self.at >= len(self.text):
            raise ValueError("a quote is not closed")
        self.at += 1

    def _expand(self, *, quoted: bool) -> None:
        found = _VARIABLE.match(self.text, self.at)
        if found is None:
            if self.text[self.at + 1 : self.at + 2] in {"(", "{"}:
                raise ValueError("it computes a part of its command line ($…)")
            self._add("$")
            return
        value = self._value(found)
        self.at = found.end()
        if quoted:
            self._add(value, 0)
            return
        # Unquoted, a value is split into words, as the shell does.
        first, *rest = re.split(r"[ \t\n]+", value) if value else [""]
        if value:
            self._add(first, 0)
        for each in rest:
            self._end_word()
            if each:
                self._add(each, 0)

    def _value(self, found: re.Match[str]) -> str:
        name, operator, other = found[1] or found[2], found[3], found[4] or ""
        if name.isdigit():
            raise ValueError(f"it uses an argument of its script (${name})")
        self.used.add(name)
        value = self.environment.get(name, "")
        if "$" in other:
            raise ValueError(f"it computes a part of its command line (${{{name}…}})")
        if operator == "+":
            return other if value else ""
        return value or (other if operator in {"-", "="} else "")

    def _operator(self, operator: str) -> None:
        self._end_word()
        self.at += len(operator)
        if operator in {"(", ")", ";;"} or operator.startswith("<"):
            raise ValueError("it is a script with more than simple commands")
        if ">" in operator:
            self.commands[-1].redirected = True
            self.to_file = "&" not in operator or operator.startswith("&")
            return
        if self.commands[-1].words:
            self.commands[-1].joined = operator
            self._assign(self.commands[-1].words)
            self.commands.append(Command())

    def _assign(self, words: list[str]) -> None:
        """Let the commands that follow see what one of assignments alone, or of `export`, has set."""
        pairs = [_ASSIGNMENT.fullmatch(word) for word in (words[1:] if words[0] == "export" else words)]
        found = [pair for pair in pairs if pair]
        if len(found) == len(pairs):
            self.environment = {**self.environment, **{pair[1]: pair[2] for pair in found}}

    def _end_word(self) -> None:
        if self.word is None:
            return
        command, word, self.word = self.commands[-1], self.word, None
        if self.to_file:
            self.to_file = False
            return
        if not command.words and word in _COMPOUND:
            raise ValueError(f"it is a script with more than simple commands ({word})")
        command.words.append(word)


def commands(script: str, environment: Mapping[str, str]) -> tuple[list[Command], set[str]]:
    """Return the simple commands of a script, and the names of the variables that it uses.

    Raises ValueError with the reason, which repeats no value.
    """
    used: set[str] = set()
    return _Scanner(script, environment, used).run(), used
