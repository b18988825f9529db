"""Scalars that accumulate while a run of training goes on."""

from typing import Any

import numpy as np


class Series:
    """Columns by name, one entry per record, in little more memory than their numbers.

    **Arguments:**

    - `dtypes`: the names, and the type of each column.
    """

    def __init__(self, dtypes: dict[str, Any]):
        self._pieces = {name: [np.empty(0, kind)] for name, kind in dtypes.items()}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def extend(self, records: list[dict[str, Any]]) -> None:
        """Append records, each with all the names."""
        for name, pieces in self._pieces.items():
            column = np.array([record[name] for record in records], pieces[0].dtype)
            # Many short pieces would take more than what is in them.
            if len(pieces) > 64:
                pieces[:] = [np.concatenate(pieces)]
            pieces.append(column)
        self._length += len(records)

    def columns(self) -> dict[str, np.ndarray]:
        """Each column as one array."""
        for pieces in self._pieces.values():
            pieces[:] = [np.concatenate(pieces)]
        return {name: pieces[0] for name, pieces in self._pieces.items()}

    def replace(self, columns: dict[str, np.ndarray]) -> None:
        """Take over other columns of the same names."""
        self._pieces = {name: [columns[name]] for name in self._pieces}
        self._length = len(next(iter(columns.values())))


def with_prefix(prefix: str, named: dict[str, Any]) -> dict[str, Any]:
    """The same values under longer names."""
    return {f"{prefix}{name}": value for name, value in named.items()}


def under_prefix(prefix: str, named: dict[str, Any]) -> dict[str, Any]:
    """What has names with this prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in named.items() if k.startswith(prefix)}
