"""A report in one HTML file that opens anywhere and needs nothing else."""

from __future__ import annotations

import base64
import contextlib
import html
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ._machine import machine
from ._plots import png
from ._tables import Table

if TYPE_CHECKING:
    import matplotlib.figure


class Report:
    """Headings, paragraphs, tables and pictures, written to one HTML file.

    The file holds its pictures and its style, needs no script and no network, reads on
    narrow and dark screens, and ends with the machine and the versions it was made
    with. All text is escaped: what looks like HTML is shown as it was typed.

    **Arguments:**

    - `title`: heading and window title.
    - `machine`: for the footer. Default `sciml.evaluation.machine()` when written.

    !!! example

        ```python
        from sciml.evaluation import Report, Table, plot_convergence

        report = Report("Poisson's equation")
        report.add_paragraph("Conjugate gradients, with and without multigrid.")
        report.add_table(Table([{"method": "CG", "num_steps": 412}]))
        figure = plot_convergence({"CG": [1.0, 0.1, 0.01]})
        report.add_figure(figure, alt="The residual falls tenfold in every iteration.")
        report.write("runs/report.html")
        ```
    """

    def __init__(self, title: str, machine: Mapping[str, Any] | None = None):
        self.title = title
        self._machine = machine
        self._parts: list[str] = []

    def add_heading(self, text: str, level: int = 2) -> None:
        """Begin a section (`level` 2) or a subsection (3)."""
        if level not in (2, 3):
            raise ValueError(f"level: expected 2 or 3 (the title is 1), got {level}.")
        self._parts.append(f"<h{level}>{html.escape(text)}</h{level}>")

    def add_paragraph(self, text: str) -> None:
        """Add text; an empty line in it begins a new paragraph."""
        for part in text.split("\n\n"):
            if part.strip():
                self._parts.append(f"<p>{html.escape(part.strip())}</p>")

    def add_code(self, text: str) -> None:
        """Add text that keeps its spaces and line ends, such as a command."""
        self._parts.append(f'<pre tabindex="0">{html.escape(text)}</pre>')

    def add_table(self, table: Table) -> None:
        """Add a table; a wide one scrolls by itself on a narrow screen."""
        label = html.escape(table.caption or "table", quote=True)
        # Focusable, so that it can be scrolled with the keyboard.
        self._parts.append(
            f'<div class="scroll" role="region" tabindex="0" aria-label="{label}">'
            f"{table.html()}</div>"
        )

    def add_figure(
        self, figure: matplotlib.figure.Figure | bytes, *, alt: str, caption: str = ""
    ) -> None:
        """Add a picture.

        **Arguments:**

        - `figure`: a matplotlib figure, or the bytes of a PNG file of 150 dots per inch
            such as `png` makes.
        - `alt`: what the picture shows, for those who cannot see it; not empty.
        - `caption`: written below it. Default none.
        """
        if not alt.strip():
            raise ValueError("alt: say in a few words what the picture shows.")
        data = figure if isinstance(figure, bytes) else png(figure)
        if not data.startswith(b"\x89PNG"):
            raise ValueError("figure: expected the bytes of a PNG file.")
        # Width and height (bytes 16 to 24) let the page keep its place while it loads,
        # in the pixels of a page, 96 to an inch, where `png` draws 150.
        pixels = (int.from_bytes(data[k : k + 4], "big") for k in (16, 20))
        width, height = (round(number * 96 / 150) for number in pixels)
        wide = ' class="wide" tabindex="0"' if width > 800 else ""
        below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
        self._parts.append(
            f'<figure{wide}><img width="{width}" height="{height}" '
            f'alt="{html.escape(alt, quote=True)}" '
            f'src="data:image/png;base64,{base64.b64encode(data).decode()}">'
            f"{below}</figure>"
        )

    def html(self) -> str:
        """The whole page."""
        facts = machine() if self._machine is None else self._machine
        rows = [{"fact": name, "value": text} for name, text in _facts(facts)]
        footer = Table(rows, ["fact", "value"], caption="Machine and versions").html()
        title = html.escape(self.title)
        return (
            '<!doctype html>\n<html lang="en-GB">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n'
            f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
            f"<main>\n<h1>{title}</h1>\n" + "\n".join(self._parts) + "\n</main>\n"
            f'<footer><div class="scroll">{footer}</div></footer>\n</body>\n</html>\n'
        )

    def write(self, path: str | os.PathLike[str]) -> pathlib.Path:
        """Write the page, whole or not at all: an older file survives a failure.

        **Arguments:**

        - `path`: the HTML file; its folders are made where missing.

        **Returns:** the path.

        **Raises:** `OSError` if it cannot be written.
        """
        path = pathlib.Path(path)
        content = self.html().encode()
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, because a file is only renamed atomically within one disk.
        file, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(file, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            # A temporary file is its owner's alone; a report is to be shown.
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        return path


def _facts(facts: Mapping[str, Any], prefix: str = ""):
    """Names and texts of nested facts; those that are not known are left out."""
    for name, value in facts.items():
        words = prefix + name.replace("_", " ")
        if isinstance(value, Mapping):
            inner = "" if name == "versions" else f"{words}: "
            yield from _facts(value, inner)
        elif value is not None:
            known = "yes" if value is True else "no" if value is False else str(value)
            yield words, known


_STYLE = """
:root { --ink: #1c2024; --soft: #5b6470; --line: #d9dee4; --back: #ffffff;
  --shade: #f4f6f8; --accent: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --soft: #a2abb6; --line: #3a424b; --back: #15181c;
    --shade: #1f242a; --accent: #7fb8f0; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; }
main, footer { max-width: 72rem; margin: 0 auto; padding: 1.5rem 1.25rem; }
main > p { max-width: 44rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: .8rem 0 1.2rem; }
h2 { font-size: 1.35rem; margin: 2.4rem 0 .6rem; padding-bottom: .3rem;
  border-bottom: 1px solid var(--line); }
h3 { font-size: 1.08rem; margin: 1.6rem 0 .4rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
:focus-visible { outline: 2px solid var(--accent); }
table { border-collapse: collapse; font-size: .92rem;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .45rem; }
th, td { padding: .38rem .9rem; text-align: left; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; background: var(--shade); white-space: normal;
  vertical-align: bottom; }
.number { text-align: right; }
pre { background: var(--shade); border: 1px solid var(--line); border-radius: 6px;
  padding: .7rem .9rem; overflow-x: auto; font-size: .88rem; }
figure { margin: 1.4rem 0; overflow-x: auto; }
.wide img { min-width: 46rem; }
/* Pictures are drawn on white; on a dark page they keep it, as a card. */
figure img { max-width: 100%; height: auto; background: #fff; border-radius: 6px; }
figcaption { color: var(--soft); font-size: .92rem; margin-top: .4rem;
  max-width: 44rem; }
footer { border-top: 1px solid var(--line); margin-top: 2rem; color: var(--soft); }
footer table { font-size: .82rem; }
footer thead { display: none; }
footer td { padding: .15rem .9rem .15rem 0; white-space: normal; }
@media print { .scroll { overflow: visible; } }
"""
