"""mlffx: force fields and phonons from coupled-cluster energies."""

__version__ = "0.1.0"
