"""How large the demonstration is."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class DemoSettings:
    """Sizes of the three acts; the defaults fit four minutes on two cores.

    - `points`: nodes per axis of the surrogate's grid.
    - `contrast`: of the two phases.
    - `num_train`, `num_test`: pairs.
    - `width`, `depth`, `num_levels`: of the MgNO.
    - `num_steps`, `batch_size`, `learning_rate`: of its training.
    - `large_points`, `large_contrasts`, `repeats`, `cap`: of the large systems.
    - `seed`: of everything.
    """

    points: int = 64
    contrast: float = 10.0
    num_train: int = 1000
    num_test: int = 100
    width: int = 16
    depth: int = 4
    num_levels: int = 6
    num_steps: int = 1000
    batch_size: int = 10
    learning_rate: float = 4e-3
    large_points: int = 511
    large_contrasts: tuple[float, ...] = (10.0, 1000.0)
    repeats: int = 3
    cap: int = 300
    seed: int = 7

    @classmethod
    def smoke(cls) -> "DemoSettings":
        """Everything once, as small as it goes: for tests."""
        return cls(
            points=16,
            num_train=12,
            num_test=4,
            width=4,
            depth=1,
            num_levels=3,
            num_steps=4,
            batch_size=4,
            large_points=31,
            repeats=1,
            cap=20,
        )
