"""Checkerboards, boxes and channels; the field of given variance and length."""

# Wrong arguments are the point here, and NumPy takes JAX scalars.
# pyright: reportArgumentType=false, reportCallIssue=false

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import ndimage

import problems
from sciml.grids import (
    BoxesField,
    ChannelsField,
    CheckerboardField,
    GaussianField,
    Grid,
    LogNormalField,
    Neumann,
    Periodic,
    SquaredExponentialField,
    TwoPhaseField,
)
from sciml.linear import to_scipy

KEY = jr.key(3)


def test_checkerboards_by_hand():
    field = CheckerboardField(2.0, 7.0, num_cells=2)
    sample = lambda grid, **kw: np.asarray(field.sample(grid, key=KEY, **kw))
    np.testing.assert_array_equal(sample(Grid(3)), [2, 7, 7])
    np.testing.assert_array_equal(
        sample(Grid((3, 2), (1.0, 3.0))), [[2, 7], [7, 2], [7, 2]]
    )
    closed = sample(Grid((3, 3, 3)), closed=True)
    assert closed.shape == (5, 5, 5)
    # The last node lies on the far end of the last block, not in one more.
    np.testing.assert_array_equal(closed[0, 0], [2, 2, 7, 7, 7])
    assert closed[4, 4, 4] == 7 and closed[4, 4, 0] == 2
    # Blocks begin where they should although 0.7 / 30 · k is not exact.
    line = sample(Grid(30, 0.7, Periodic(), origin=-0.2))
    np.testing.assert_array_equal(line, [2.0] * 15 + [7.0] * 15)


@pytest.mark.parametrize("field", [BoxesField(1e-2, 50.0), ChannelsField(0.5, 1e6)])
def test_random_fields_do_not_depend_on_the_resolution(field):
    coarse, fine = Grid((15, 7), (2.0, 1.0)), Grid((31, 15), (2.0, 1.0))
    draw = jax.jit(
        lambda k: (field.sample(coarse, key=k), field.sample(fine, key=k)),
    )
    one, two = draw(KEY), draw(jr.key(4))
    for a, b in (one, two):
        np.testing.assert_array_equal(b[1::2, 1::2], a)
        assert field.low <= b.min() and b.max() <= field.high
    assert not np.array_equal(one[1], two[1])
    closed = field.sample(fine, key=KEY, closed=True)
    np.testing.assert_array_equal(closed[1:-1, 1:-1], one[1])


def test_boxes_are_boxes():
    """One box: its cross-section is an interval, of the size that is promised."""
    field = BoxesField(1e-3, 1e3, num_boxes=1)
    grid = Grid((199, 199), boundary=Neumann())
    draw = jax.jit(lambda k: field.sample(grid, key=k))
    logs = []
    for number in range(12):
        a = np.asarray(draw(jr.key(number)))
        inside = a != 1.0
        value = np.unique(a[inside])
        assert len(value) == 1 and 1e-3 <= value[0] <= 1e3
        logs.append(np.log10(value[0]))
        rows, columns = inside.any(1), inside.any(0)
        np.testing.assert_array_equal(inside, np.outer(rows, columns))
        for line in (rows, columns):
            (ends,) = np.nonzero(np.diff(np.pad(line.astype(int), 1)))
            assert len(ends) == 2
            # (Half of it may stick out of the domain.)
            assert 0.04 < (ends[1] - ends[0]) / 198 < 0.41
    assert min(logs) < -1 and max(logs) > 1


@pytest.mark.parametrize("shape", [(63, 64), (31, 32, 33)])
def test_channels_cross_the_box(shape):
    """Each is one connected piece from side to side, and thin."""
    count, width = len(shape), 0.1
    grid = Grid(shape)
    draw = lambda number: np.asarray(
        jax.jit(
            lambda key: ChannelsField(1.0, 9.0, number, width).sample(grid, key=key)
        )(KEY)
    )
    every = draw(count)
    assert set(np.unique(every)) == {1.0, 9.0}
    # The first channel alone runs along axis 0.
    first = draw(1)
    labels = np.zeros(shape, int)
    pieces = ndimage.label(first == 9.0, output=labels)
    assert pieces == 1 and (labels > 0).any(tuple(range(1, count))).all()
    thickness = width * np.array(shape[1:])
    room = np.pi / 4 * thickness.prod() if count == 3 else thickness[0]
    sections = (first == 9.0).sum(tuple(range(1, count)))
    np.testing.assert_allclose(sections, room, atol=0.5 * room)
    # Together they touch both ends of every axis.
    for axis in range(count):
        ends = np.take(every, [0, -1], axis)
        assert (ends == 9.0).any(tuple(k for k in range(count) if k != axis)).all()


@pytest.mark.parametrize("boundary", [Neumann(), Periodic()])
def test_covariance_of_the_squared_exponential(boundary):
    grid = Grid((6, 5), (1.0, 0.5), boundary, origin=(1.0, 0.0))
    variance, length, count = 2.5, 0.15, 4000
    field = SquaredExponentialField(variance, length)
    draw = jax.jit(jax.vmap(lambda k: field.sample(grid, key=k)))
    samples = np.asarray(draw(jr.split(KEY, count))).reshape(count, -1)
    points = np.stack([x.ravel() for x in grid.mesh()], 1)
    expected = np.full((30, 30), variance)
    for k, extent in enumerate(grid.extent):
        distance = points[:, None, k] - points[None, :, k]
        shifts = extent * np.arange(-9, 10) if grid.periodic[k] else np.zeros(1)
        images = np.exp(-((distance[..., None] + shifts) ** 2) / (2 * length**2)).sum(2)
        expected *= images / images[0, 0]
    error = samples.T @ samples / count - expected
    # Five standard deviations of the sample covariance of a normal field.
    assert np.abs(error).max() < 5 * variance * np.sqrt(2 / count)
    assert np.abs(samples.mean(0)).max() < 5 * np.sqrt(variance / count)
    fine = Grid((6, 25), (1.0, 0.5), boundary, origin=(1.0, 0.0))
    if boundary == Periodic():
        again = field.sample(fine, key=jr.split(KEY, count)[0])
        np.testing.assert_allclose(again[:, ::5].ravel(), samples[0], rtol=1e-10)


@pytest.mark.parametrize(
    "coefficient, shape",
    [
        ("checkerboard", (9, 8)),
        ("channels", (9, 8)),
        (ChannelsField(1.0, 1e6, width=0.3), (5, 4, 5)),
        (TwoPhaseField(1.0, 1e3, GaussianField(tau=20.0)), (9, 8)),
        (LogNormalField(SquaredExponentialField(1.1)), (9, 8)),
    ],
)
def test_diffusion_with_them(coefficient, shape):
    problem = problems.Diffusion(shape, coefficient, 1e6)

    @eqx.filter_jit
    def system(key):
        a = problem.sample_coefficient(key=key)
        return a, *problem.assemble(a)

    a, A, b = system(KEY)
    assert a.shape == shape and float(a.max() / a.min()) > 5.0
    if isinstance(coefficient, str):
        assert set(np.unique(a)) == {1.0, 1e6}
    matrix = to_scipy(A).toarray()
    assert np.linalg.eigvalsh(matrix)[0] > 0
    assert np.linalg.solve(matrix, np.ravel(b)).min() > 0


def test_mistakes():
    with pytest.raises(ValueError, match="num_cells: expected at least 1, got 0"):
        CheckerboardField(num_cells=0)
    with pytest.raises(ValueError, match=r"low, high: expected 0 < low .* got 0.0 and"):
        BoxesField(0.0, 1.0)
    with pytest.raises(ValueError, match="num_boxes: expected at least 1, got 0"):
        BoxesField(num_boxes=0)
    with pytest.raises(ValueError, match="num_channels: expected at least 1, got 0"):
        ChannelsField(num_channels=0)
    with pytest.raises(ValueError, match="width: expected a fraction .* got 1.5"):
        ChannelsField(width=1.5)
    with pytest.raises(ValueError, match="channels need two or three axes, got one"):
        problems.Diffusion(9, "channels").sample_coefficient(key=KEY)
    with pytest.raises(ValueError, match="variance: expected a positive number, got"):
        SquaredExponentialField(variance=-1.0)
    with pytest.raises(ValueError, match="correlation_length: expected a positive"):
        SquaredExponentialField(correlation_length=0.0)
    assert jnp.isfinite(SquaredExponentialField(1.0, 50.0).sample(Grid(3), key=KEY)[0])
