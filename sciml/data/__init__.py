"""Data sets of fields on a grid, and readers for files that hold them."""

from ._darcy import read_darcy_small as read_darcy_small
from ._dataset import DataError as DataError, Dataset as Dataset
from ._npz import read_npz as read_npz
