"""Bars on a terminal, by rich: for progress.py and check_progress.py, which load this when there is one."""

from collections.abc import Iterator
from typing import Final

from rich.console import Console, RenderableType
from rich.constrain import Constrain
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from qwenctl.units import render_rate

_NARROW: Final = 64  # columns; below there is no room for a rate beside a label and a bar
_ECHO: Final = 3  # columns for the `^C` of the terminal, which would begin a line that nobody clears


class Bars(Progress):
    """Bars on stderr, one a line however narrow it is, that are gone when all is done.

    Each has a name, a bar, how much of it (`DownloadColumn` with `as_bytes`, else percent), rate, time left.
    """

    def __init__(self, *, as_bytes: bool = False) -> None:
        self._screen = Console(stderr=True)
        self.narrow = self._screen.width < _NARROW
        done = TextColumn("{task.percentage:>3.0f}%", table_column=_unbroken())
        super().__init__(
            TextColumn("{task.description}", table_column=_unbroken()),
            BarColumn(bar_width=None),
            DownloadColumn(binary_units=True, table_column=_unbroken()) if as_bytes else done,
            *([] if self.narrow else [_RateColumn(table_column=_unbroken())]),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True, table_column=_unbroken()),
            console=self._screen,
            transient=True,
        )

    def get_renderables(self) -> Iterator[RenderableType]:
        """See rich."""
        yield Constrain(self.make_tasks_table(self.tasks), max(1, self._screen.width - _ECHO))


class _RateColumn(ProgressColumn):
    """Bytes a second, in the units of the rest."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else render_rate(speed), style="progress.data.speed")


def _unbroken() -> Column:
    return Column(no_wrap=True)
