"""A trained preconditioner or model from what the user calls it."""

import pathlib
from typing import Any

from ._common import BadData


def trained(name: str) -> Any:
    """What `sciml.save` wrote to this file, or what `sciml.pretrained` knows.

    **Raises:** `BadData` for neither.
    """
    import sciml
    from sciml._pretrained import pretrained_names

    if name in pretrained_names():
        found = sciml.pretrained(name)
        return getattr(found, "learned", found)
    if not pathlib.Path(name).is_file():
        known = ", ".join(pretrained_names())
        raise BadData(f"{name}: no such file, and none of {known}.")
    try:
        return sciml.load(name)
    except sciml.SerialisationError as error:
        raise BadData(str(error)) from error
