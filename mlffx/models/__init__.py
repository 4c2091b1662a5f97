"""Architectures: importing the package fills `MODELS`. A new one is a file here and a line below."""

from mlffx.models import mace, painn
from mlffx.models.base import MODELS, AtomicModel, build_model

__all__ = ["MODELS", "AtomicModel", "build_model", "mace", "painn"]
