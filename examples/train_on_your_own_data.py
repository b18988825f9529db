"""Train on data of your own: from an HDF5 file to a model that marches in time.

Run it with `python examples/train_on_your_own_data.py`; it takes a minute or two on two
cores. A file in the layout of PDEBench is written, with waves that steepen (Burgers'
equation), and then read as if somebody else had made it. An FNO learns the step from
one saved state to the next. What is wrong with a file is said before a model sees it.
"""

import pathlib
import tempfile

import equinox as eqx
import h5py
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

import problems
import sciml
from sciml.grids import Periodic
from sciml.neural_operators import FNO, NoCoordinates, normalised


def main(smoke: bool = False) -> dict[str, float]:
    """Run every step; `smoke` learns little, but fast.

    **Returns:** errors by name, and what was read.
    """
    # The simulation is in double precision; the reader gives what models train on.
    jax.config.update("jax_enable_x64", True)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "1D_Burgers_Sols_Nu0.01.hdf5"
        write_file(path, num_samples=40 if smoke else 200)
        numbers, train, test = read_file(path)
        damage_file(path)
    model = train_model(train, num_steps=300 if smoke else 3_000)
    return numbers | judge(model, test)


def write_file(path: pathlib.Path, num_samples: int) -> None:
    """What a simulation of your own would do."""
    problem = problems.Burgers(64, viscosity=0.01, time_step=5e-3)
    data = problem.dataset(num_samples, num_saves=20, key=jr.key(0))
    with h5py.File(path, "w") as file:
        # (samples, times, x), the first time being 0.
        file["tensor"] = np.concatenate([data.inputs, data.targets], axis=1)
        file["x-coordinate"] = problem.grid.coordinates(0)
        file["t-coordinate"] = np.append(0.0, problem.times(20))
        file.attrs["Nu"] = 0.01


def read_file(path: pathlib.Path):
    """One-step pairs to train with, whole trajectories to test with."""
    # What the file does not say, its reader has to be told: what happens at the sides.
    with sciml.data.open_pdebench(path, boundary=Periodic()) as source:
        print(source)
        num_train = int(0.8 * len(source))
        viscosity = source.parameters(0)["Nu"]
        # Inputs u(t), targets u(t + Δt): one channel each. Only these samples are read.
        train = source.transitions(range(num_train))
        # Inputs u(0), targets u at all later times, as channels.
        test = source.dataset(range(num_train, len(source)))
    print(f"viscosity {viscosity}, {len(train)} pairs, {len(test)} trajectories")
    numbers = {"viscosity": viscosity, "pairs": len(train), "tests": len(test)}
    return numbers, train, test


def damage_file(path: pathlib.Path) -> None:
    """A file with a mistake in it is refused, with the place of the mistake."""
    with h5py.File(path, "r+") as file:
        file["tensor"][3, 2, 5] = np.nan
    with sciml.data.open_pdebench(path, boundary=Periodic()) as source:
        try:
            source.transitions()
        except sciml.data.DataError as error:
            print(f"  {str(error).replace(str(path.parent), '…')}\n")


def train_model(train: sciml.data.Dataset, num_steps: int):
    """An FNO for one step, in the units of the data."""
    model = FNO(
        1,
        in_channels=1,
        out_channels=1,
        width=16,
        depth=3,
        num_modes=12,
        # Nothing distinguishes one place on a periodic line from another.
        coordinates=NoCoordinates(),
        key=jr.key(1),
    )
    model = normalised(single_precision(model), train.inputs, train.targets)
    model, history = sciml.training.fit(
        model,
        train,
        loss=sciml.training.RelativeL2(),
        optimiser=optax.adamw(optax.cosine_decay_schedule(5e-3, num_steps)),
        num_steps=num_steps,
        batch_size=32,
        progress=False,
        key=jr.key(2),
    )
    print(f"trained in {history.training_time:.0f} s")
    return model


def judge(model, test: sciml.data.Dataset) -> dict[str, float]:
    """Errors after one step and after all of them, and those of no change at all."""
    times = test.targets.shape[1]

    def march(u, _):
        u = jax.vmap(model)(u)
        return u, u[:, 0]

    _, states = jax.lax.scan(march, jnp.asarray(test.inputs), length=times)
    predicted = np.moveaxis(np.asarray(states), 0, 1)
    stays = np.broadcast_to(test.inputs, test.targets.shape)
    numbers = {}
    for name, fields in (("model", predicted), ("no_change", stays)):
        for when, k in (("first", 0), ("last", times - 1)):
            error = relative_l2(fields[:, k], test.targets[:, k])
            numbers[f"{name}_{when}"] = error
    for name in ("model", "no_change"):
        first, last = numbers[f"{name}_first"], numbers[f"{name}_last"]
        print(f"{name:<10} {first:7.2%} after one step, {last:7.2%} after {times}")
    return numbers


def single_precision(tree):
    """A model with its numbers in float32, like the data."""
    return jax.tree.map(
        lambda x: x.astype(np.float32) if eqx.is_inexact_array(x) else x, tree
    )


def relative_l2(fields, targets) -> float:
    """Mean over samples of ‖û − u‖/‖u‖."""
    error = np.linalg.norm(fields - targets, axis=1)
    return float(np.mean(error / np.linalg.norm(targets, axis=1)))


if __name__ == "__main__":
    main()
