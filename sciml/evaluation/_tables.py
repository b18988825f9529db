"""Tables of results as plain text, Markdown and HTML."""

import dataclasses
import html
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_EMPTY = "–"


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a table.

    **Arguments:**

    - `key`: the entry of each row that is shown.
    - `title`: the heading; default the key with spaces for underscores.
    - `unit`: written behind the heading in brackets, e.g. `"s"`. Default none.
    - `format`: a format specification, e.g. `".1%"` or `".2e"`, for its numbers.
        Default: three significant digits for floats, all digits of integers in groups.
    """

    key: str
    title: str | None = None
    unit: str = ""
    format: str | None = None

    @property
    def heading(self) -> str:
        """Title and unit."""
        title = self.key.replace("_", " ") if self.title is None else self.title
        return f"{title} [{self.unit}]" if self.unit else title

    def cell(self, row: Mapping[str, Any]) -> str:
        """The text of this column in a row; a dash where the row has None or nothing.

        **Raises:** `ValueError` if `format` does not fit a number.
        """
        value = row.get(self.key)
        if isinstance(value, np.generic) or getattr(value, "shape", None) == ():
            value = np.asarray(value).item()
        if value is None:
            return _EMPTY
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, numbers.Real):
            return _number(value) if self.format is None else format(value, self.format)
        return str(value)


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of results that print themselves.

    **Arguments:**

    - `rows`: dictionaries; entries that no column asks for are not shown.
    - `columns`: `Column`s, or keys for columns with the defaults. Default: every key
        in the order of its first appearance.
    - `caption`: what the table shows, and under which conditions.

    !!! example

        ```python
        from sciml.evaluation import Column, Table

        rows = [{"method": "CG", "num_steps": 412, "run_time": 1.93}]
        table = Table(rows, ["method", "num_steps", Column("run_time", unit="s")])
        print(table.plain())
        table.markdown(), table.html()
        ```
    """

    rows: Sequence[Mapping[str, Any]]
    columns: Sequence[Column | str] = ()
    caption: str = ""

    def _columns(self) -> list[Column]:
        keys = self.columns or dict.fromkeys(key for row in self.rows for key in row)
        return [Column(key) if isinstance(key, str) else key for key in keys]

    def _numeric(self) -> list[bool]:
        """Which columns hold numbers only: those are aligned to the right."""
        return [
            all(
                isinstance(value, numbers.Real | np.generic | None)
                or getattr(value, "shape", None) == ()
                for value in (row.get(column.key) for row in self.rows)
            )
            for column in self._columns()
        ]

    def _cells(self) -> list[list[str]]:
        columns = self._columns()
        return [
            [column.heading for column in columns],
            *([column.cell(row) for column in columns] for row in self.rows),
        ]

    def plain(self) -> str:
        """Aligned columns for a terminal."""
        cells = [[" ".join(cell.split()) for cell in line] for line in self._cells()]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = []
        for line in cells:
            aligned = (
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(
                    line, widths, self._numeric(), strict=True
                )
            )
            lines.append("  ".join(aligned).rstrip())
        lines.insert(1, "  ".join("─" * width for width in widths))
        return "\n".join([*filter(None, [self.caption]), *lines])

    def markdown(self) -> str:
        """A pipe table; what Markdown or HTML would interpret is escaped."""
        header, *body = [
            ["".join(_MARKDOWN.get(c, c) for c in " ".join(cell.split())) for cell in x]
            for x in self._cells()
        ]
        rule = ["--:" if right else ":--" for right in self._numeric()]
        lines = ["| " + " | ".join(line) + " |" for line in (header, rule, *body)]
        return "\n".join(lines)

    def html(self) -> str:
        """A `<table>`; everything in it is escaped."""
        header, *body = [[html.escape(cell) for cell in line] for line in self._cells()]
        kinds = [' class="number"' if right else "" for right in self._numeric()]
        head = "".join(
            f'<th scope="col"{kind}>{cell}</th>'
            for cell, kind in zip(header, kinds, strict=True)
        )
        lines = [
            "".join(
                f"<td{kind}>{cell}</td>" for cell, kind in zip(line, kinds, strict=True)
            )
            for line in body
        ]
        caption = f"<caption>{html.escape(self.caption)}</caption>"
        return (
            f"<table>{caption if self.caption else ''}\n"
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n"
            + "".join(f"<tr>{line}</tr>\n" for line in lines)
            + "</tbody></table>"
        )


def format_table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[Column | str] = ()
) -> str:
    """Aligned columns of plain text: `Table(rows, columns).plain()`.

    **Arguments:**

    - `rows`: dictionaries, one per line.
    - `columns`: `Column`s or keys. Default: all keys.
    """
    return Table(rows, columns).plain()


_MARKDOWN = {c: f"\\{c}" for c in "\\|`*_[]"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def _number(value: Any) -> str:
    if isinstance(value, numbers.Integral):
        return f"{value:,}"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2e}"
    # Three significant digits, and the whole of a number's integer part.
    return f"{value:,.{max(2 - math.floor(math.log10(abs(value))), 0)}f}"
