"""Out of memory: what to change, in one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool

import torch

from mlffx.errors import UserError
from mlffx.training.settings import TrainSettings

_SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory", "std::bad_alloc")


@contextlib.contextmanager
def telling_of_memory(settings: TrainSettings) -> Iterator[None]:
    """Turns every way of running out of memory into advice.

    Raises:
        UserError: instead of those errors.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise UserError(_where(error), _advice(settings)) from error
    except BrokenProcessPool as error:
        what = "a training process was killed, most likely for want of memory"
        raise UserError(what, _advice(settings) + "; resume=RUN_DIR goes on") from error
    except RuntimeError as error:
        if not any(sign in str(error).lower() for sign in _SIGNS):
            raise
        raise UserError(_where(error), _advice(settings)) from error


def _where(error: BaseException) -> str:
    return "out of memory" + (" on the GPU" if "CUDA" in str(error) else "")


def _advice(settings: TrainSettings) -> str:
    """What needs less memory, the cheapest for the result first."""
    s = settings.trainer
    advice = []
    if s.workers != 1 and settings.ensemble > 1 and s.accelerator == "cpu":
        advice.append("train fewer members at once (trainer.workers=1)")
    if s.batch_size > 1:
        advice.append(f"lower trainer.batch_size (now {s.batch_size}) or share it among devices (trainer=ddp)")
    if "cutoff" in settings.model:
        advice.append(f"lower model.cutoff (now {settings.model['cutoff']}: edges grow with its cube)")
    advice.append("take fewer channels or layers, or data.train_size")
    return ", ".join(advice)
