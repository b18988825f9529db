"""Handwritten digits, small enough to train on in seconds."""

import importlib

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

_Labelled = tuple[np.ndarray, np.ndarray]


def load_digits(
    *, key: PRNGKeyArray, num_test: int = 360
) -> tuple[_Labelled, _Labelled]:
    """1797 handwritten digits of 8 × 8 pixels, split at random to train and to test.

    A classification task in the place of MNIST where nothing is to be downloaded: the
    images come with scikit-learn, which has to be installed (for this function only).
    By default 1437 train and 360 test; one test image is 0.28 % of accuracy.

    **Arguments:**

    - `key`: draws the split; the same key, the same split.
    - `num_test`: how many images test, 1 to 1796. Default 360, a fifth.

    **Returns:** `(images, labels), (test_images, test_labels)`: images of shape
    `(samples, 64)`, row after row, with brightness from 0 to 1 in JAX's default
    floating type; labels 0 to 9 of shape `(samples,)` as 32-bit integers. NumPy arrays.

    **Raises:** `ImportError` without scikit-learn, `ValueError` for a number of test
    images that leaves one part empty.

    !!! example

        ```python
        import importlib.util
        import jax.random as jr
        import problems

        if importlib.util.find_spec("sklearn") is not None:
            train, test = problems.load_digits(key=jr.key(0))
            images, labels = train  # (1437, 64), (1437,)
        ```

    !!! cite "Reference"

        E. Alpaydin and C. Kaynak, Optical recognition of handwritten digits, UCI
        Machine Learning Repository (1998), the test set of which it is.
    """
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ImportError as error:
        raise ImportError(
            "load_digits needs scikit-learn, with which the images come: "
            "pip install scikit-learn"
        ) from error

    found = datasets.load_digits()
    size = len(found["target"])
    if not 0 < num_test < size:
        raise ValueError(f"num_test: expected 1 to {size - 1}, got {num_test}.")
    # Pixels count the ink of 4 × 4 finer ones.
    images = (found["data"] / 16).astype(jnp.result_type(float))
    labels = found["target"].astype(np.int32)
    order = np.asarray(jr.permutation(key, size))
    train, test = order[num_test:], order[:num_test]
    return (images[train], labels[train]), (images[test], labels[test])
