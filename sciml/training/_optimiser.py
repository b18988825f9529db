"""The optimiser that `fit` takes unless told otherwise."""

import optax


def default_optimiser(num_steps: int) -> optax.GradientTransformation:
    """AdamW with one cosine cycle of the learning rate and clipped gradients.

    The rate rises from 5e-4 to 1e-3 over the first fifth of the steps and falls to
    1e-5 at the end, per step; weight decay 1e-4; gradients are scaled down to a global
    norm of 1. This is the recipe of the MgNO paper (He, Liu and Xu, 2024: cycle 0.2,
    dividers 2 and 100, decay 1e-4) with decoupled decay, and with a clip against the
    odd bad batch.

    **Arguments:**

    - `num_steps`: length of the cycle, the run's number of steps.

    !!! example

        ```python
        optimiser = sciml.training.default_optimiser(5_000)
        ```
    """
    schedule = optax.cosine_onecycle_schedule(
        num_steps, peak_value=1e-3, pct_start=0.2, div_factor=2, final_div_factor=50
    )
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-4)
    )
