"""Architectures: importing the package fills `MODELS`. A new one is a file here and a line below."""

from mlffx.models import bpnn, force_constants, mace, nequip, painn, schnet
from mlffx.models.base import MODELS, AtomicModel, build_model

__all__ = ["MODELS", "AtomicModel", "bpnn", "build_model", "force_constants", "mace", "nequip", "painn", "schnet"]
