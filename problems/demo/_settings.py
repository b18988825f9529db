"""How large the demonstration is."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Act one: nodes per axis, contrast of the two phases, numbers of pairs."""

    points: int = 64
    contrast: float = 10.0
    num_train: int = 1000
    num_test: int = 100


@dataclasses.dataclass(frozen=True)
class Training:
    """Act two: the MgNO and its training."""

    width: int = 16
    depth: int = 4
    num_levels: int = 6
    num_steps: int = 900
    batch_size: int = 10
    learning_rate: float = 4e-3


@dataclasses.dataclass(frozen=True)
class LargeSystems:
    """Act three: nodes per axis, contrasts, rounds, and where plain CG is capped."""

    points: int = 511
    contrasts: tuple[float, ...] = (10.0, 1000.0)
    repeats: int = 3
    cap: int = 300


@dataclasses.dataclass(frozen=True)
class DemoSettings:
    """Sizes of the three acts; the defaults fit four minutes on two cores.

    - `pairs`, `training`, `large`: of the acts.
    - `seed`: of everything that is random.
    """

    pairs: Pairs = Pairs()
    training: Training = Training()
    large: LargeSystems = LargeSystems()
    seed: int = 7

    @classmethod
    def smoke(cls) -> "DemoSettings":
        """Everything once, as small as it goes: for tests."""
        return cls(
            Pairs(points=15, num_train=12, num_test=4),
            Training(width=4, depth=1, num_levels=3, num_steps=4, batch_size=4),
            LargeSystems(points=31, repeats=1, cap=20),
        )
