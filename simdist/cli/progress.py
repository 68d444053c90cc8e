"""Progress of long work, on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import typer
from rich.console import Console
from rich.status import Status

from simdist.cli.render import duration

# Seconds between two lines where there is no terminal.
LINE_SECONDS = 5.0
JSON_SECONDS = 1.0


class Monitor:
    """One live line on a terminal, a line now and then elsewhere."""

    def __init__(self, *, as_json: bool = False, unit: str = "images") -> None:
        """Nothing is shown yet.

        Args:
            as_json: only `show_object` shows anything.
            unit: what `count` counts.
        """
        self._as_json = as_json
        self._unit = unit
        console = Console(stderr=True, highlight=False)
        self._status = Status("", console=console) if sys.stderr.isatty() and not as_json else None
        self._line_at = 0.0
        # What is being done now, since when, and how much of it had been done before.
        self._doing, self._since, self._before = "", 0.0, 0

    def __enter__(self) -> Monitor:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def pause(self) -> None:
        """Leave the terminal alone, for a question."""
        if self._status:
            self._status.stop()

    def say(self, text: str) -> None:
        """Show a line."""
        if self._status:
            self._status.update(text)
        elif not self._as_json:
            typer.echo(text, err=True)

    def show(self, line: Callable[[], str]) -> None:
        """Show how far the work is, unless that was just done."""
        now = time.monotonic()
        if self._status or now - self._line_at >= LINE_SECONDS:
            self._line_at = now
            self.say(line())

    def show_object(self, fields: Mapping[str, Any], *, last: bool = False) -> None:
        """Show how far the work is as a line of JSON, unless that was just done."""
        now = time.monotonic()
        if last or now - self._line_at >= JSON_SECONDS:
            self._line_at = now
            typer.echo(json.dumps(fields), err=True)

    def count(self, doing: str, done: int, total: int) -> None:
        """Show how many of how many are done; `total` is 0 where there is nothing to count."""
        if doing != self._doing:
            self._doing, self._since, self._before = doing, time.monotonic(), done
            # Each stage is named once, however short it is.
            self._line_at = time.monotonic()
            self.say(self._line(done, total))
        else:
            self.show(lambda: self._line(done, total))

    def _line(self, done: int, total: int) -> str:
        if not total:
            return self._doing
        line = f"{self._doing}: {done:,} of {total:,} {self._unit}"
        if done == self._before:
            return line
        rate = (done - self._before) / (time.monotonic() - self._since)
        return f"{line}  {rate:,.0f} {self._unit}/s  {duration((total - done) / rate)} left"
