"""Files in foreign layouts, small, that the tests of readers share."""

import numpy as np
import pytest

from sciml.data import HDF5Source
from sciml.grids import Grid, Periodic

h5py = pytest.importorskip("h5py")

SAMPLES, TIMES, SIZE, WIDE = 4, 5, 6, 8
# Cell centres of the unit interval, as PDEBench and generators alike store them.
X = ((np.arange(SIZE) + 0.5) / SIZE).astype("f4")
Y = ((np.arange(WIDE) + 0.5) / WIDE).astype("f4")
T = np.linspace(0, 2, TIMES).astype("f4")
LINE = Grid(SIZE, boundary=Periodic())
PLANE = Grid((SIZE, WIDE), boundary=Periodic())


def values(*shape, dtype="f4", start=0):
    """Different numbers, each exact in float16."""
    return (np.arange(np.prod(shape)).reshape(shape) % 2039 + start).astype(dtype)


U = values(SAMPLES, TIMES, SIZE)


def source(path, fields=None, **options):
    options.setdefault("grid", LINE)
    return HDF5Source(path, fields or {"u": "sample time x"}, **options)


def write(path, contents, attributes=None, **options):
    with h5py.File(path, "w", **options) as file:
        for name, content in contents.items():
            file[name] = content
        for name, value in (attributes or {}).items():
            owner, _, key = name.rpartition("@")
            file[owner or "/"].attrs[key] = value
    return path


def edit(path, change):
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def replace(name, content, **options):
    def change(file):
        attributes = dict(file[name].attrs)
        del file[name]
        file.create_dataset(name, data=content, **options).attrs.update(attributes)

    return change


def burgers(path, **changes):
    """1-D: a tensor of (samples, times, x), and one time too many."""
    contents = {
        "tensor": values(SAMPLES, TIMES, SIZE),
        "x-coordinate": X,
        "t-coordinate": np.append(T, 2.5).astype("f4"),
    }
    return write(path, contents | changes, {"Nu": 0.01})


def darcy(path):
    contents = {
        "nu": values(SAMPLES, SIZE, WIDE),
        "tensor": values(SAMPLES, 1, SIZE, WIDE, start=1),
        "x-coordinate": X,
        "y-coordinate": Y,
    }
    return write(path, contents, {"beta": 1.0})


def compressible(path):
    names = ("Vx", "Vy", "density", "pressure")
    contents = {
        name: values(SAMPLES, TIMES, SIZE, WIDE, start=k)
        for k, name in enumerate(names)
    }
    axes = {"x-coordinate": X, "y-coordinate": Y, "t-coordinate": T}
    return write(path, contents | axes, {"eta": 0.1, "zeta": 0.1, "M": 1.0})


def reaction(path, samples=SAMPLES):
    """2-D: a group per sample, (times, x, y, channels) in each."""
    contents, attributes = {}, {}
    for k in range(samples):
        contents |= {
            f"{k:04}/data": values(TIMES, SIZE, WIDE, 2, start=k),
            f"{k:04}/grid/x": X,
            f"{k:04}/grid/y": Y,
            f"{k:04}/grid/t": T,
        }
        attributes[f"{k:04}@config"] = f"sim:\n  seed: {k}\n"
    return write(path, contents, attributes)


def well(path, kinds=("PERIODIC", "PERIODIC")):
    """Two axes; scalar, vector and tensor fields; some that do not vary."""
    fields = {
        "t0_fields/pressure": values(SAMPLES, TIMES, SIZE, WIDE),
        "t0_fields/speed": values(SAMPLES, SIZE, WIDE, start=1),
        "t0_fields/depth": values(SIZE, start=2),
        "t1_fields/velocity": values(SAMPLES, TIMES, SIZE, WIDE, 2, start=3),
        "t2_fields/strain": values(SAMPLES, TIMES, SIZE, WIDE, 2, 2, start=4),
    }
    varying = {
        "t0_fields/pressure": (True, True, [True, True]),
        "t0_fields/speed": (True, False, [True, True]),
        "t0_fields/depth": (False, False, [True, False]),
        "t1_fields/velocity": (True, True, [True, True]),
        "t2_fields/strain": (True, True, [True, True]),
    }
    contents = fields | {
        "dimensions/time": T,
        "dimensions/x": X,
        "dimensions/y": Y,
        "scalars/zeta": np.array([3.0]),
        "scalars/force": values(SAMPLES, TIMES),
    }
    attributes = {
        "@dataset_name": "made_up",
        "@grid_type": "cartesian",
        "@n_spatial_dims": 2,
        "@n_trajectories": SAMPLES,
        "@simulation_parameters": ["zeta"],
        "@zeta": 3.0,
        "dimensions@spatial_dims": ["x", "y"],
        "scalars@field_names": ["zeta", "force"],
        "scalars/force@sample_varying": True,
        "scalars/force@time_varying": True,
        "scalars/zeta@sample_varying": False,
        "scalars/zeta@time_varying": False,
    }
    for name, flags in varying.items():
        for flag, value in zip(("sample", "time", "dim"), flags, strict=True):
            attributes[f"{name}@{flag}_varying"] = value
    for order in range(3):
        group = f"t{order}_fields"
        attributes[f"{group}@field_names"] = [
            name.split("/")[1] for name in fields if name.startswith(group)
        ]
    for axis, kind in zip("xy", kinds, strict=True):
        side = f"boundary_conditions/{axis}_{kind.lower()}"
        mask = np.zeros(len(X if axis == "x" else Y), bool)
        mask[[0, -1]] = True
        contents[f"{side}/mask"] = mask
        attributes |= {
            f"{side}@bc_type": kind,
            f"{side}@associated_dims": [axis],
            f"{side}@associated_fields": [],
            f"{side}@sample_varying": False,
            f"{side}@time_varying": False,
        }
    return write(path, contents, attributes)
