"""Where real data sets are, which the project does not ship."""

import os
import pathlib


def find_file(
    name: str, folder: str | os.PathLike | None, subfolder: str, what: str
) -> pathlib.Path:
    """The file `name` in `folder`, or in the `subfolder` of the one of SCIML_DATA."""
    if folder is not None:
        place = pathlib.Path(folder)
        origin = "folder"
    else:
        data = os.environ.get("SCIML_DATA")
        if not data:
            raise FileNotFoundError(
                f"folder: give the folder of {what}, or set the environment variable "
                f"SCIML_DATA to the folder that has {name} in its subfolder "
                f"{subfolder!r}."
            )
        place = pathlib.Path(data) / subfolder
        origin = f"SCIML_DATA is {data}"
    if not place.is_dir():
        raise FileNotFoundError(f"{origin}: there is no folder {place}.")
    path = place / name
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; it has {what}.")
    return path
