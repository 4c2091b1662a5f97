"""Values that are possible, beyond their types: checked before work starts, so that nothing deep inside stumbles."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any

import torch

from mlffx.errors import UserError

# Lowest and highest value; None where there is no bound. A bound of 0.0 is excluded for what must be positive.
BOUNDS: dict[str, tuple[float, float | None]] = {
    "trainer.max_epochs": (1, 10_000_000),
    "trainer.batch_size": (1, None),
    "trainer.patience": (1, None),
    "trainer.ema": (0, 1),
    "trainer.validate_every": (1, None),
    "trainer.devices": (1, 1024),
    "trainer.num_nodes": (1, 1024),
    "trainer.threads": (1, 1024),
    "trainer.workers": (1, 1024),
    "optimizer.weight_decay": (0, None),
    "scheduler.warmup": (0, 1),
    "scheduler.patience": (0, None),
    "loss.energy.weight": (0, None),
    "loss.forces.weight": (0, None),
    "loss.forces.auto_weight": (0, None),
    "wandb.phonons_every": (1, None),
    "ensemble": (1, 10_000),
    "seed": (0, 4_000_000),  # members have seeds of their own, 1000 to a run, and Lightning takes 32 bits
    "split_seed": (0, 2**63 - 1),
}
POSITIVE = ("optimizer.lr", "trainer.gradient_clip", "loss.energy.delta", "loss.forces.delta")


def check_limits(settings: Any) -> None:
    """Whether every value of the settings is possible.

    Raises:
        UserError: names the key and what it may be.
    """
    values = _values(settings, "")
    for key, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{value} is not finite", "give a finite number", key)
    for key, (low, high) in BOUNDS.items():
        value = values.get(key)
        if value is not None and (value < low or (high is not None and value > high)):
            few = " is too few" if low == 1 and value < 1 else f" is not {_range(low, high)}"
            raise UserError(f"{value}{few}", f"take {_range(low, high)}", key)
    for key in POSITIVE:
        if (value := values.get(key)) is not None and value <= 0:
            raise UserError(f"{value} is not positive", "give a positive number", key)
    if values["trainer.validate_every"] > values["trainer.max_epochs"]:
        what = f"{values['trainer.validate_every']} epochs, of {values['trainer.max_epochs']} in all"
        raise UserError(what, "the best epoch is told by validation: take fewer", "trainer.validate_every")
    if values["scheduler.name"] == "plateau" and values["trainer.validate_every"] > 1:
        remedy = "take trainer.validate_every=1 or another scheduler"
        raise UserError("'plateau' looks at the validation error of every epoch", remedy, "scheduler.name")
    weight, automatic = values["loss.forces.weight"], values["loss.forces.auto_weight"]
    if values["loss.energy.weight"] == 0 and (automatic if weight is None else weight) == 0:
        raise UserError("nothing to learn: both weights are 0", "give loss.energy.weight a value", "loss")


def check_devices(accelerator: str, devices: int, num_nodes: int, batch_size: int) -> None:
    """Whether this machine has what the trainer asks for.

    Raises:
        UserError: for GPUs that are not there, and more devices than structures in a batch.
    """
    there = torch.cuda.device_count()
    if accelerator in ("gpu", "cuda") and there < devices:
        found = "no GPU is" if there == 0 else f"{there} GPU(s) are"
        raise UserError(f"{devices} wanted, {found} here", "take trainer=cpu, or fewer devices", "trainer.devices")
    if devices * num_nodes > batch_size:
        what = f"{devices * num_nodes} devices share a batch of {batch_size} structures"
        raise UserError(what, "raise trainer.batch_size, or take fewer devices", "trainer.devices")


def _range(low: float, high: float | None) -> str:
    return f"{low:g} or more" if high is None else f"between {low:g} and {high:g}"


def _values(settings: Any, prefix: str) -> dict[str, Any]:
    """Dotted key -> value of nested settings."""
    found: dict[str, Any] = {}
    for field in fields(settings):
        value, key = getattr(settings, field.name), f"{prefix}{field.name}"
        found |= _values(value, f"{key}.") if is_dataclass(value) else {key: value}
    return found
