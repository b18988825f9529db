"""Which nodes of an axis make up the next coarser one."""

from ._boundary import BoundaryPair, Dirichlet, Neumann, Periodic


def coarse_alignment(num_points: int, pair: BoundaryPair) -> tuple[int, int]:
    """First coarse node and number of coarse nodes of one axis.

    Coarse nodes are every second fine node, `start, start + 2, …`, placed so that a
    Dirichlet boundary stays a multiple of the coarse spacing away (the low one where
    both cannot be had). Every fine node is then a coarse node or has a coarse
    neighbour, for even and odd sizes alike.

    **Arguments:**

    - `num_points`: stored nodes of the fine axis.
    - `pair`: the conditions on its low and high side.

    **Returns:**

    `(start, num_coarse)`; `num_coarse` can be 0 if there is one interior node only.
    """
    low, high = pair
    if isinstance(low, Periodic) or low.stores_nodes:
        start = 0
        if isinstance(low, Neumann) and isinstance(high, Dirichlet):
            # Only the high side binds: count back from its boundary node.
            start = (num_points - high.stores_nodes) % 2
    else:
        start = 1
    return start, (num_points - start + 1) // 2
