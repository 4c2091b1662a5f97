"""What is known about the materials: experiments, published calculations, and baselines of the released labels."""

from mlffx.references.tables import COMPOSITIONS, Measurement, Reference, materials, read_reference, reference

__all__ = ["COMPOSITIONS", "Measurement", "Reference", "materials", "read_reference", "reference"]
