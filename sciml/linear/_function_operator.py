"""A symmetric linear operator made of any module that maps a vector to a vector."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.tree_util as jtu
import lineax as lx
from jaxtyping import Array, Inexact, PyTree, Shaped

from ._protocol import dense_from_products, register_operator
from ._tree import Vector


@register_operator
class SymmetricOperator(lx.AbstractLinearOperator):
    """x ↦ function(x) for a function that is linear and symmetric (Hermitian).

    What our preconditioner builders return. Unlike `lineax.FunctionLinearOperator` it
    does not trace the function when it is made, and its parameters stay visible as
    the leaves of `function`.

    **Arguments:**

    - `function`: an `eqx.Module` that maps vectors of `structure` to such vectors. It
        is believed to be linear and symmetric.
    - `structure`: `jax.ShapeDtypeStruct`s of the vectors.
    - `tags`: `lineax` tags; symmetric is implied.
    - `facts`: numbers that its builder found out, by name; `sciml.linear_solve` hands
        them on as `stats["preconditioner"]`. Default none.
    """

    function: Callable[[Vector], Vector]
    _structure: tuple = eqx.field(static=True)
    tags: frozenset[object] = eqx.field(static=True)
    facts: dict[str, Shaped[Array, "..."]]

    def __init__(
        self,
        function: Callable[[Vector], Vector],
        structure: PyTree[jax.ShapeDtypeStruct],
        tags: object | frozenset[object] = frozenset(),
        facts: dict[str, Shaped[Array, "..."]] | None = None,
    ):
        self.function = function
        self.facts = {} if facts is None else facts
        # Static fields are hashed, and a structure may hold lists or dictionaries.
        leaves, tree = jtu.tree_flatten(structure)
        self._structure = (tuple(leaves), tree)
        self.tags = (tags if isinstance(tags, frozenset) else frozenset([tags])) | {
            lx.symmetric_tag
        }

    def mv(self, vector: PyTree[Inexact[Array, "..."]]) -> Vector:
        """function(vector)."""
        return self.function(vector)

    def as_matrix(self) -> Inexact[Array, "n n"]:
        """The dense matrix, one product per column."""
        return dense_from_products(self)

    def transpose(self) -> "SymmetricOperator":
        """Itself."""
        return self

    def in_structure(self) -> PyTree[jax.ShapeDtypeStruct]:
        """Structure of the vectors that it takes."""
        leaves, tree = self._structure
        return jtu.tree_unflatten(tree, leaves)

    def out_structure(self) -> PyTree[jax.ShapeDtypeStruct]:
        """Structure of the vectors that it gives, the same."""
        return self.in_structure()


def facts_of(operator: lx.AbstractLinearOperator | None) -> dict:
    """What goes into a solve's statistics from its preconditioner."""
    facts = getattr(operator, "facts", None)
    return {"preconditioner": dict(facts)} if facts else {}
