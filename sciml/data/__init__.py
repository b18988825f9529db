"""Data sets of fields on a grid, and readers for files that hold them."""

from ._darcy import read_darcy_small as read_darcy_small
from ._dataset import DataError as DataError, Dataset as Dataset
from ._mat import read_mat as read_mat
from ._npz import read_npz as read_npz
from ._pdebench import open_pdebench as open_pdebench
from ._source import HDF5Source as HDF5Source
from ._the_well import open_the_well as open_the_well
from ._windows import transitions as transitions
