"""Tables, plots and reports."""

import html.parser
import math
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import evaluation
from sciml.evaluation import (
    Column,
    Report,
    Table,
    format_table,
    plot_bars,
    plot_convergence,
    plot_fields,
    plot_paths,
    plot_step_sizes,
    plot_training,
    png,
)
from sciml.grids import Grid, Neumann, Periodic

# --- tables ---------------------------------------------------------------------------

ROWS = [
    {"method": "CG | <b>", "num_steps": 1412, "run_time": np.float32(1.9344)},
    {"method": "multigrid", "num_steps": jnp.asarray(7), "run_time": 4.04e-9},
    {"method": "none", "num_steps": None, "run_time": math.nan},
]
COLUMNS = ["method", "num_steps", Column("run_time", unit="s")]


def test_plain_table():
    assert format_table(ROWS, COLUMNS).splitlines() == [
        "method     num steps  run time [s]",
        "─────────  ─────────  ────────────",
        "CG | <b>       1,412          1.93",
        "multigrid          7      4.04e-09",
        "none               –           NaN",
    ]


def test_markdown_table():
    assert Table(ROWS[:1], COLUMNS).markdown().splitlines() == [
        "| method | num steps | run time \\[s\\] |",
        "| :-- | --: | --: |",
        "| CG \\| &lt;b&gt; | 1,412 | 1.93 |",
    ]


def test_html_table():
    text = Table(ROWS, COLUMNS, caption="a < b").html()
    assert "<caption>a &lt; b</caption>" in text
    assert "<td>CG | &lt;b&gt;</td>" in text and "<b>" not in text
    assert '<th scope="col" class="number">run time [s]</th>' in text


@pytest.mark.parametrize(
    "value, text",
    [
        (0.0, "0"),
        (-0.25, "-0.250"),
        (0.0, "0"),
        (9.99, "9.99"),
        (12345.6, "12,346"),
        (1e5, "1.00e+05"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (True, "yes"),
        (np.False_, "no"),
        (None, "–"),
        ("two\nlines", "two lines"),
    ],
)
def test_cells(value, text):
    assert Table([{"a": value}]).plain().splitlines()[-1] == text


def test_columns_by_default_and_with_a_format():
    assert Table([{"a_b": 1}, {"c": 2}]).markdown().startswith("| a b | c |")
    assert Column("a", "share", format=".1%").cell({"a": 0.123}) == "12.3%"
    assert Table([], ["a"]).plain().splitlines()[0] == "a"


# --- plots ----------------------------------------------------------------------------


def size(figure):
    data = png(figure, dpi=50)
    assert data.startswith(b"\x89PNG")
    return len(data)


def images(figure):
    return [image for axes in figure.axes for image in axes.images]


def test_field_panels():
    grid = Grid((8, 5), extent=(1.0, 2.0), boundary=(Neumann(), Periodic()))
    x, _ = grid.mesh()
    fields = {"coefficient": 1 + x, "solution": x, "prediction": 2 * x, "error": x}
    figure = plot_fields(
        fields, grid, shared=("solution", "prediction"), units={"error": "m"}
    )
    coefficient, solution, prediction, error = images(figure)
    assert coefficient.get_clim() == (1.0, 2.0)
    assert solution.get_clim() == prediction.get_clim() == (0.0, 2.0)
    assert error.get_clim() == (-1.0, 1.0) and error.get_cmap().name == "RdBu_r"
    # x to the right, y upwards, every node in the middle of its cell.
    np.testing.assert_array_equal(solution.get_array(), x.T)
    hx, hy = grid.spacing
    np.testing.assert_allclose(
        solution.get_extent(), (-hx / 2, 1 + hx / 2, -hy / 2, 2 - hy / 2)
    )
    assert size(figure) > 2_000
    tall = plot_fields(fields, grid, columns=1)
    assert tall.get_figheight() == 4 * figure.get_figheight()
    assert figure.get_figwidth() == 4 * tall.get_figwidth()


@pytest.mark.parametrize("shape", [(9,), (4, 6), (4, 6, 3)])
def test_fields_of_any_dimension(shape):
    field = np.arange(math.prod(shape)).reshape(shape)
    assert size(plot_fields({"u": jnp.asarray(field)}, Grid(shape))) > 1_000


@pytest.mark.parametrize("value", [0.0, np.nan, 3])
def test_constant_and_empty_fields_are_drawn(value):
    assert size(plot_fields({"u": np.full((4, 4), value), "error": np.zeros((4, 4))}))


def test_fields_are_refused():
    with pytest.raises(ValueError, match=r"expected the grid's shape \(4, 4\)"):
        plot_fields({"u": np.ones((1, 4, 4))}, Grid((4, 4)))
    with pytest.raises(ValueError, match="complex"):
        plot_fields({"u": np.ones((4, 4), complex)})
    with pytest.raises(ValueError, match="columns"):
        plot_fields({"u": np.ones((4, 4))}, columns=0)
    with pytest.raises(ValueError, match="'v' is not among"):
        plot_fields({"u": np.ones((4, 4))}, shared=("v",))
    with pytest.raises(ValueError, match="at least one"):
        plot_fields({})


def test_convergence_curves():
    padded = np.array([1.0, 1e-3, 0.0, np.nan, np.nan])
    histories = {"CG": padded, "none": [np.nan], "long": np.geomspace(1, 1e-8, 400)}
    figure = plot_convergence(histories, tolerance=1e-6)
    (axes,) = figure.axes
    assert axes.get_yscale() == "log" and axes.get_ylabel() == "relative residual"
    drawn = np.asarray(axes.lines[0].get_ydata())
    np.testing.assert_array_equal(np.isfinite(drawn), [True, True, False, False, False])
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == list(histories)
    assert size(figure) > 2_000
    with pytest.raises(ValueError, match=r"histories\['CG'\]"):
        plot_convergence({"CG": np.ones((2, 2))})


def test_training_curves():
    curves = {"loss": np.geomspace(1, 0.1, 300), "test": ([0, 300], [1.0, 0.2])}
    assert size(plot_training(curves)) > 2_000
    with pytest.raises(ValueError, match="3 steps but 1 values"):
        plot_training({"test": ([0, 1, 2], [1.0])})


def test_paths():
    t = np.linspace(0, 1, 20)
    panels = {
        "first": {"a": (t, t), "b": (t, -t, 0.1 + t)},
        "second": {"b": (t, t**2)},
        "below": {"c": (t, 1 - t)},
    }
    data = {"first": {"seen": ([0, 1], [0.1, 0.2]), "hidden": ([0.5], [0.3])}}
    figure = plot_paths(panels, data, ylabel="y", columns=2, shared=True)
    first, second, below = figure.axes
    assert [axes.get_title() for axes in figure.axes] == list(panels)
    # What is below or at the left says what the axes are.
    assert [axes.get_ylabel() for axes in figure.axes] == ["y", "", "y"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "t", "t"]
    # A curve, a curve with the two edges of its band, two kinds of points.
    assert len(first.lines) == 6 and len(first.collections) == 1
    # One name has one colour.
    assert first.lines[1].get_color() == second.lines[0].get_color()
    assert first.get_ylim() == second.get_ylim() and below.get_title() == "below"
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert sorted(names) == ["a", "b", "c", "hidden", "seen"]
    assert size(figure) > 2_000
    assert size(plot_paths({"plane": {"a": (t, t)}}, equal=True)) > 2_000
    with pytest.raises(ValueError, match="at least one"):
        plot_paths({})
    with pytest.raises(ValueError, match=r"panels\['a'\]"):
        plot_paths({"plane": {"a": (t, np.ones((2, 2)))}})


def test_step_sizes():
    times = {f"solve {k}": np.linspace(0, 1, 3 + k) for k in range(9)}
    figure = plot_step_sizes(times)
    (axes,) = figure.axes
    assert axes.get_yscale() == "log" and axes.get_ylabel() == "step size"
    np.testing.assert_allclose(np.asarray(axes.lines[0].get_xdata()), [0.25, 0.75])
    np.testing.assert_allclose(np.asarray(axes.lines[0].get_ydata()), [0.5, 0.5])
    # No two look alike.
    looks = {
        (line.get_color(), line.get_marker(), line.get_markerfacecolor())
        for line in axes.lines
    }
    assert len(looks) == 9
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()][0] == "solve 0: 2"
    assert size(figure) > 2_000
    with pytest.raises(ValueError, match="increasing"):
        plot_step_sizes({"back": [0.0, 1.0, 0.5]})


def test_bars():
    times = {"CG": 1.93, "multigrid": 0.05, "Jacobi": np.nan}
    figure = plot_bars(times, xlabel="time", missing="never")
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert labels == ["1.93", "0.05", "never"]
    assert size(figure) > 1_000


def test_drawing_leaves_no_global_state_behind(tmp_path):
    code = (
        "import sys, sciml.evaluation as e\n"
        "assert not [m for m in sys.modules if m.startswith('matplotlib')]\n"
        "e.png(e.plot_convergence({'CG': [1, 0.1]}))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    environment = os.environ | {"MPLCONFIGDIR": str(tmp_path)}
    environment.pop("MPLBACKEND", None)
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'sciml-solvers\[cli\]'"):
        evaluation.plot_convergence({"CG": [1.0]})


# --- reports --------------------------------------------------------------------------


class Page(html.parser.HTMLParser):
    """Tags, attributes and text of a page whose tags must nest."""

    VOID = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def sample_report():
    report = Report("A <title> & more")
    report.add_heading("First")
    report.add_paragraph("One <script>alert(1)</script>.\n\nTwo.")
    report.add_code("sciml bench  linear > out")
    report.add_table(Table(ROWS, COLUMNS, caption='Said "so"'))
    figure = plot_convergence({"CG": [1.0, 0.1]})
    report.add_figure(figure, alt='A "falling" line', caption="Figure <1>")
    return report


def test_report_is_self_contained_and_escaped(tmp_path):
    path = sample_report().write(tmp_path / "new" / "report.html")
    page = Page(path.read_text("utf-8"))
    assert "script" not in [tag for tag, _ in page.tags]
    assert "One <script>alert(1)</script>." in page.text
    assert page.text.count("A <title> & more") == 2
    for tag, attributes in page.tags:
        assert tag != "link"
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:")
        if tag == "img":
            assert attributes["alt"] == 'A "falling" line'
            assert int(attributes["width"]) > int(attributes["height"]) > 100
    assert jax.__version__ in page.text and "python" in page.text
    assert os.stat(path).st_mode & 0o777 == 0o644


def test_report_refuses():
    report = Report("title")
    with pytest.raises(ValueError, match="alt"):
        report.add_figure(b"\x89PNG", alt=" ")
    with pytest.raises(ValueError, match="PNG"):
        report.add_figure(b"GIF89a", alt="a")
    with pytest.raises(ValueError, match="level"):
        report.add_heading("a", level=1)


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        sample_report().write(path)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text() == "old"
