"""Time series and classes: the spiral SDE, and readers of real data sets."""

import sys
import types

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import problems
from sciml.data import DataError

SAMPLES = 3000  # trajectories; the same number everywhere, for one program

# --- the spiral SDE -------------------------------------------------------------------


def test_spiral_sde_by_hand():
    sde = problems.SpiralSDE()
    y = jnp.array([0.5, -0.3])
    expected = [-0.1 * 0.125 - 2 * 0.027, -2 * 0.125 + 0.1 * 0.027]
    np.testing.assert_allclose(sde.drift(0.0, y, sde.args), expected, rtol=1e-12)
    increment = jnp.array([2.0, 3.0])
    noise = sde.diffusion(0.0, y, None).mv(increment)
    np.testing.assert_allclose(noise, [0.2 * 0.5 * 2, -0.2 * 0.3 * 3], rtol=1e-12)
    path = dfx.UnsafeBrownianPath((2,), key=jr.key(0))
    drifts = [
        terms.terms[0].vf(0.0, y, sde.args)
        for terms in (sde.ito_terms(path), sde.stratonovich_terms(path))
    ]
    np.testing.assert_allclose(drifts[0] - drifts[1], 0.02 * y, rtol=1e-12)
    assert sde.ts.shape == (30,) and sde.ts[0] == 0 and sde.ts[-1] == 1


def test_moments_without_drift_are_exact(getkey):
    """Then E u = 2 and Var u = 4 (exp γ²t − 1), which is Itô's sense of the noise."""
    sde, gamma = problems.SpiralSDE(), 0.2
    ys = sde.trajectories(SAMPLES, key=getkey(), args=(0.0, 0.0, gamma))
    u, t = np.asarray(ys[..., 0]), np.asarray(sde.ts)
    assert ys.shape == (SAMPLES, 30, 2)
    np.testing.assert_array_equal(ys[..., 1], 0)
    np.testing.assert_array_equal(u[:, 0], 2)
    variance = 4 * (np.exp(gamma**2 * t) - 1)
    # Four standard errors. (The mean in Stratonovich's sense, 2 exp γ²t/2, is off by
    # more at the end.)
    error = np.abs(u.mean(0) - 2)
    assert np.all(error <= 4 * np.sqrt(variance / SAMPLES) + 1e-12)
    assert np.all(np.abs(u.var(0) - variance) <= 4 * variance * np.sqrt(2.3 / SAMPLES))


def reference_trajectories(samples: int, rng: np.random.Generator) -> np.ndarray:
    """The spiral SDE at `ts` by another scheme: noise exactly, drift by Runge–Kutta."""
    steps, y = 4, np.tile([2.0, 0.0], (samples, 1))
    h = 1 / (29 * steps)
    drift = lambda y: y**3 @ np.array([[-0.1, -2.0], [2.0, -0.1]])
    half = lambda: np.exp(
        -0.01 * h + 0.2 * np.sqrt(h / 2) * rng.normal(size=(samples, 2))
    )
    found = [y]
    for k in range(29 * steps):
        y = y * half()
        k1 = drift(y)
        k2 = drift(y + h / 2 * k1)
        k3 = drift(y + h / 2 * k2)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + drift(y + h * k3))
        y = y * half()
        if (k + 1) % steps == 0:
            found.append(y)
    return np.stack(found, axis=1)


def test_moments_of_the_spiral(getkey):
    """Within the statistical error of those by an independent scheme."""
    sde, key = problems.SpiralSDE(), getkey()
    mean, variance = sde.moments(SAMPLES, key=key)
    assert mean.shape == variance.shape == (30, 2)
    other = reference_trajectories(3 * SAMPLES, np.random.default_rng(0))
    expected = other.mean(0), other.var(0)
    fourth = ((other - expected[0]) ** 4).mean(0)
    # (Those of both: one has three times as many samples.)
    errors = [np.sqrt(x / SAMPLES * (1 + 1 / 3)) for x in (expected[1], fourth)]
    for found, exact, error in zip((mean, variance), expected, errors, strict=True):
        # (The steps' own error is below 0.004, see `substeps`.)
        assert np.all(np.abs(found - exact) <= 4.5 * error + 0.004)
    # The key decides, and trajectory i depends on it and on i only.
    ys = sde.trajectories(SAMPLES, key=key)
    np.testing.assert_array_equal(mean, jnp.mean(ys, axis=0))
    fewer = sde.trajectories(3, key=key)
    np.testing.assert_allclose(fewer, ys[:3], rtol=1e-10)
    np.testing.assert_array_equal(fewer, sde.trajectories(3, key=key))
    assert not np.allclose(fewer, sde.trajectories(3, key=getkey()))
    assert not np.allclose(fewer[0], fewer[1])


def test_without_noise_it_is_a_spiral(getkey):
    """The one that turns the other way; and errors of the steps are of second order."""
    sde, ode = problems.SpiralSDE(), problems.Spiral(t1=1.0)
    solution = dfx.diffeqsolve(
        ode.term(),
        dfx.Tsit5(),
        ode.t0,
        ode.t1,
        0.001,
        ode.y0,
        ode.args.T,
        saveat=dfx.SaveAt(ts=ode.ts),
    )
    found = sde.trajectories(3, key=getkey(), args=(0.1, 2.0, 0.0))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0], np.asarray(solution.ys), atol=2e-3)


def test_spiral_sde_says_what_is_wrong():
    sde, key = problems.SpiralSDE(), jr.key(0)
    with pytest.raises(ValueError, match="num_trajectories: expected at least 1"):
        sde.trajectories(0, key=key)
    with pytest.raises(ValueError, match="at least 2 for a variance, got 1"):
        sde.moments(1, key=key)
    with pytest.raises(ValueError, match="substeps: expected at least 1, got 0"):
        sde.trajectories(1, key=key, substeps=0)
    with pytest.raises(ValueError, match=r"args: expected .* shape \(3,\)"):
        sde.trajectories(1, key=key, args=(0.1, 2.0))
    with pytest.raises(ValueError, match=r"y: expected one state of shape \(2,\)"):
        sde.drift(0.0, jnp.ones(3), None)


# --- hares and lynxes -----------------------------------------------------------------

HARES = "# Pelts\nYear, Lynx, Hare\n1900, 4.0, 30.0\n1901, 6.1, 47.2"


def test_lynx_and_hare(data_folder):
    years, populations = problems.load_lynx_hare()
    np.testing.assert_array_equal(years, np.arange(1900, 1921))
    assert populations.shape == (21, 2) and populations.dtype == np.float64
    np.testing.assert_array_equal(populations[[0, 20]], [[30.0, 4.0], [24.7, 8.6]])
    # The parameters that are the default were fitted to this series.
    ode = problems.LotkaVolterra()
    solution = dfx.diffeqsolve(
        ode.term(),
        dfx.Tsit5(),
        ode.t0,
        ode.t1,
        0.01,
        ode.y0,
        ode.args,
        saveat=dfx.SaveAt(ts=jnp.asarray(years - 1900)),
    )
    spread = np.std(np.log(np.asarray(solution.ys)) - np.log(populations))
    assert 0.2 < spread < 0.25


def test_lynx_and_hare_from_a_folder(tmp_path, monkeypatch):
    file = tmp_path / "hudson-bay-lynx-hare.csv"
    file.write_text(HARES)
    years, populations = problems.load_lynx_hare(tmp_path)
    np.testing.assert_array_equal(years, [1900, 1901])
    np.testing.assert_array_equal(populations, [[30.0, 4.0], [47.2, 6.1]])
    for text, message in (
        ("", r"expected the columns \['Year', 'Lynx', 'Hare'\], got \[\]"),
        (HARES.replace("Lynx", "Fox"), "got .*Fox"),
        (HARES + "\n1902, 9.8", "not a table of numbers"),
        (HARES + "\n1902, many, 3", "not a table of numbers"),
        (HARES + "\n1902, -1, 3", "expected three positive numbers in each row"),
        (HARES[:24], r"positive numbers .* shape \(0,\)"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=message):
            problems.load_lynx_hare(tmp_path)


@pytest.mark.parametrize(
    "load", [problems.load_lynx_hare, problems.load_japanese_vowels]
)
def test_where_real_data_are_looked_for(load, tmp_path, monkeypatch):
    monkeypatch.delenv("SCIML_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="set the environment variable SCIML_D"):
        load()
    monkeypatch.setenv("SCIML_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="SCIML_DATA is .* no folder .*series"):
        load()
    (tmp_path / "time_series").mkdir()
    with pytest.raises(FileNotFoundError, match="no such file; it has the"):
        load()
    with pytest.raises(FileNotFoundError, match="folder: there is no folder nowhere"):
        load("nowhere")


# --- digits ---------------------------------------------------------------------------


def check_digits():
    (x, y), (x_test, y_test) = problems.load_digits(key=jr.key(3))
    assert x.shape == (1437, 64) and x_test.shape == (360, 64)
    assert y.shape == (1437,) and y_test.shape == (360,)
    assert x.dtype == np.float64 and y.dtype == np.int32
    assert x.min() == 0 and x.max() == 1 and set(y) == set(range(10))
    again = problems.load_digits(key=jr.key(3))
    np.testing.assert_array_equal(again[1][0], x_test)
    other = problems.load_digits(key=jr.key(4), num_test=1000)
    assert len(other[1][0]) == 1000 and not np.array_equal(other[1][0][:360], x_test)
    return np.concatenate([x_test, x]), np.concatenate([y_test, y])


def test_digits():
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = check_digits()
    # Every image once, with its own label.
    found = datasets.load_digits()
    images_too = found["data"] / 16
    rows = np.lexsort(images.T), np.lexsort(images_too.T)
    np.testing.assert_array_equal(images[rows[0]], images_too[rows[1]])
    np.testing.assert_array_equal(labels[rows[0]], found["target"][rows[1]])


def test_the_split_of_digits(monkeypatch):
    """With stand-ins that have the shape of the images: scikit-learn is not needed."""
    labels = np.arange(1797) % 10
    stand_in = {
        "data": np.linspace(0, 16, 1797)[:, None] * np.ones(64),
        "target": labels,
    }
    module = types.SimpleNamespace(load_digits=lambda: stand_in)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", module)
    images, found = check_digits()
    order = np.argsort(images[:, 0])
    np.testing.assert_array_equal(images[order], stand_in["data"] / 16)
    np.testing.assert_array_equal(found[order], labels)
    for number in (0, 1797):
        with pytest.raises(ValueError, match="num_test: expected 1 to 1796"):
            problems.load_digits(key=jr.key(0), num_test=number)


def test_digits_without_scikit_learn(monkeypatch):
    # Python's way to say that there is none.
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        problems.load_digits(key=jr.key(0))


# --- Japanese vowels ------------------------------------------------------------------


def text_of(series: list[np.ndarray], labels: list[int]) -> str:
    rows = [
        ":".join(",".join(map(str, channel)) for channel in one.T) + f":{label}"
        for one, label in zip(series, labels, strict=True)
    ]
    return "\n".join(["# Vowels", "@problemName JapaneseVowels", "@data", *rows, ""])


@pytest.fixture
def vowels(tmp_path):
    """Series of 3, 5 and 2 frames; the last one tests."""
    rng = np.random.default_rng(0)
    series = [rng.normal(size=(n, 12)).round(3) + 10.0 for n in (3, 5, 2)]
    for name, part, labels in (
        ("TRAIN", series[:2], [1, 9]),
        ("TEST", series[2:], [4]),
    ):
        (tmp_path / f"JapaneseVowels_{name}.ts").write_text(text_of(part, labels))
    return tmp_path, series


def test_vowels(vowels):
    folder, series = vowels
    train, test = problems.load_japanese_vowels(folder)
    assert len(train) == 2 and len(test) == 1
    np.testing.assert_array_equal(train.times, np.arange(5.0))
    for part, whole in ((train, series[:2]), (test, series[2:])):
        assert part.values.shape == (len(whole), 5, 12)
        for k, one in enumerate(whole):
            np.testing.assert_array_equal(part.values[k, : len(one)], one)
            np.testing.assert_array_equal(part.values[k, len(one) :], 0)
            np.testing.assert_array_equal(part.mask[k], np.arange(5) < len(one))
            assert part.lengths[k] == len(one)
    np.testing.assert_array_equal(train.labels, [0, 8])
    np.testing.assert_array_equal(test.labels, [3])
    assert train.values_or_nan().dtype == train.values.dtype
    np.testing.assert_array_equal(np.isnan(train.values_or_nan()[..., 0]), ~train.mask)


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("@data", "@nothing", "there is no series below a line '@data'"),
        (":9\n", ":0\n", "line 5: .* class from 1 to 9, got the class 0"),
        (":9\n", ":nine\n", "line 5: not a series of numbers with a class"),
        (":9\n", ",1.0:9\n", "line 5: not a series of numbers .* equally long"),
        (":9\n", ":1,1,1,1,1:9\n", "line 5: expected 12 channels, got 13"),
        ("@data", "@data\n:::1", "line 4: not a series of numbers"),
        ("@data", "@data\n1", "line 4: expected 12 channels, got 0"),
    ],
)
def test_files_that_hold_no_vowels(vowels, old, new, message):
    folder, _ = vowels
    file = folder / "JapaneseVowels_TRAIN.ts"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(DataError, match=f"TRAIN.ts.*{message}"):
        problems.load_japanese_vowels(folder)


def test_values_of_vowels_are_finite(vowels):
    folder, series = vowels
    file = folder / "JapaneseVowels_TEST.ts"
    file.write_text(text_of([series[2] * np.inf], [4]))
    with pytest.raises(DataError, match="line 4: expected finite numbers"):
        problems.load_japanese_vowels(folder)


def test_gaps(vowels, getkey):
    folder, _ = vowels
    train, _ = problems.load_japanese_vowels(folder)
    key = getkey()
    sparse = problems.drop_observations(train, 0.5, key=key)
    # 1.5 and 2.5 observations, rounded to even.
    np.testing.assert_array_equal(sparse.mask.sum(1), [1, 3])
    assert np.all(sparse.mask <= train.mask) and np.all(sparse.mask[:, 0])
    np.testing.assert_array_equal(sparse.values[~sparse.mask], 0)
    np.testing.assert_array_equal(sparse.values[sparse.mask], train.values[sparse.mask])
    for same in ("times", "lengths", "labels"):
        assert getattr(sparse, same) is getattr(train, same)
    again = problems.drop_observations(train, 0.5, key=key)
    assert bool(eqx.tree_equal(sparse, again))
    masks = [
        problems.drop_observations(train, 0.5, key=getkey()).mask for _ in range(20)
    ]
    assert len({mask.tobytes() for mask in masks}) > 1
    assert all(np.all(mask[:, 0]) for mask in masks)
    whole = problems.drop_observations(train, 0.0, key=key)
    assert bool(eqx.tree_equal(whole, train))
    bare = problems.drop_observations(sparse, 0.99, key=key)
    np.testing.assert_array_equal(bare.mask.sum(1), [1, 1])
    for fraction in (1.0, -0.1):
        with pytest.raises(ValueError, match="fraction: expected a number in"):
            problems.drop_observations(train, fraction, key=key)


def test_series_of_other_shapes():
    fits = {
        "times": np.arange(3.0),
        "values": np.zeros((2, 3, 1)),
        "mask": np.ones((2, 3), bool),
        "lengths": np.array([3, 3]),
        "labels": np.array([0, 1]),
    }
    assert len(problems.LabelledSeries(**fits)) == 2
    for name in ("times", "mask", "lengths", "labels"):
        with pytest.raises(DataError, match=rf"{name}: expected shape .* got \(1,\)"):
            problems.LabelledSeries(**fits | {name: np.ones(1)})
    with pytest.raises(DataError, match=r"values: expected shape \(samples, max_len"):
        problems.LabelledSeries(**fits | {"values": np.ones((2, 3))})


def test_real_vowels(data_folder):
    """What is known of them; and diffrax makes smooth paths of them, gaps or not."""
    train, test = problems.load_japanese_vowels()
    assert train.values.shape == (270, 29, 12) and test.values.shape == (370, 29, 12)
    lengths = np.concatenate([train.lengths, test.lengths])
    assert lengths.min() == 7 and lengths.max() == 29
    np.testing.assert_array_equal(np.bincount(train.labels), 30)
    counts = np.bincount(test.labels)
    assert len(counts) == 9 and counts.min() == 24 and counts.max() == 88
    assert train.values[0, 0, 0] == 1.860936 and train.lengths[0] == 20
    assert train.values.dtype == np.float64 and np.all(np.isfinite(train.values))

    sparse = problems.drop_observations(train, 0.7, key=jr.key(0))
    interpolate = jax.jit(
        jax.vmap(
            lambda values: dfx.backward_hermite_coefficients(
                jnp.asarray(sparse.times), values, fill_forward_nans_at_end=True
            )
        )
    )
    for coefficient in interpolate(jnp.asarray(sparse.values_or_nan()[:8])):
        assert np.all(np.isfinite(coefficient))
