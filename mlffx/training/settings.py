"""The schema of conf/train.yaml: every key a training run reads, with its default, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from mlffx.config import read_settings
from mlffx.errors import UserError
from mlffx.training.limits import check_limits


@dataclass(frozen=True)
class LossTerm:
    """One term of the loss, of residuals divided by the standard deviation of their targets.

    Attributes:
        weight: 0 switches the term off.
        kind: `mse`, or `huber` (quadratic up to `delta`, then linear: outlying labels pull less).
        delta: where Huber turns linear, in standard deviations of the target.
    """

    weight: float = 1.0
    kind: Literal["mse", "huber"] = "mse"
    delta: float = 0.1


@dataclass(frozen=True)
class LossSettings:
    """`forces.weight: null` takes forces where the level has them, a number insists on them."""

    energy: LossTerm = field(default_factory=LossTerm)
    forces: ForceTerm = field(default_factory=lambda: ForceTerm())


@dataclass(frozen=True)
class ForceTerm:
    """As LossTerm; weight None means: `auto_weight` if the level has forces, else no term."""

    weight: float | None = None
    auto_weight: float = 1.0
    kind: Literal["mse", "huber"] = "mse"
    delta: float = 0.1


@dataclass(frozen=True)
class OptimizerSettings:
    name: Literal["adam", "adamw"] = "adamw"
    lr: float = 5e-3
    weight_decay: float = 0.0
    amsgrad: bool = False


@dataclass(frozen=True)
class SchedulerSettings:
    """`onecycle`: up over `warmup` of the run, then cosine to zero; `constant`; `plateau`: halve after `patience`."""

    name: Literal["onecycle", "constant", "plateau"] = "onecycle"
    warmup: float = 0.1
    patience: int = 20


@dataclass(frozen=True)
class TrainerSettings:
    """Attributes:
    max_epochs: passes over the training set.
    batch_size: structures a step, all devices together.
    patience: epochs without a better validation error before stopping; None never stops early.
    gradient_clip: norm.
    ema: decay per step of the averaged weights that are validated and kept; 0 switches it off.
    validate_every: epochs.
    precision: of networks; geometry and energies are in float64 always.
    accelerator, devices, strategy, num_nodes: as Lightning has them.
    threads: of torch in this process; None leaves them.
    workers: ensemble members trained at once; None: one for every core.
    progress: bars.
    """

    max_epochs: int = 100
    batch_size: int = 4
    patience: int | None = None
    gradient_clip: float = 10.0
    ema: float = 0.99
    validate_every: int = 1
    precision: Literal["float32", "float64"] = "float32"
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = "cpu"
    devices: int = 1
    strategy: Literal["auto", "ddp"] = "auto"
    num_nodes: int = 1
    threads: int | None = None
    workers: int | None = None
    progress: bool = True


@dataclass(frozen=True)
class LoggerSettings:
    """`csv` writes metrics.csv only; `wandb` logs to Weights & Biases too."""

    name: Literal["csv", "wandb"] = "wandb"


@dataclass(frozen=True)
class WandbSettings:
    """As wandb.init has them; offline needs neither account nor network.

    Attributes:
        phonons_every: epochs between phonons during training, also into phonons.csv; None: never.
    """

    mode: Literal["online", "offline", "disabled"] = "offline"
    project: str = "mlffx"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    phonons_every: int | None = None


@dataclass(frozen=True)
class PotentialSettings:
    """Attributes:
    kind: `direct`, `delta` or `charge_aware`.
    low: level a delta starts from; None: the data set's low level.
    base: `train`, a run directory, a phonopy file of force constants, or an ASE calculator (`ase:tersoff`...).
    base_overrides: what the base is trained with instead (`[trainer.max_epochs=200]`).
    """

    kind: Literal["direct", "delta", "charge_aware"] = "direct"
    low: str | None = None
    base: str = "train"
    base_overrides: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class DeltaSettings:
    """How a difference is found: `readout`, a linear head on the base's features; `network`, one of its own."""

    fit: Literal["readout", "network"] = "readout"


@dataclass(frozen=True)
class StartSettings:
    """What a network begins with; on the command line beside the options of the architecture, `model.init_from=...`.

    Attributes:
        init_from: run directory, checkpoint, or dumped weights of mace-torch or nequip; None begins at random.
        freeze: parameters, or modules by the beginning of their dotted names, that are not trained.
    """

    init_from: str | None = None
    freeze: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class LevelSettings:
    name: str


@dataclass(frozen=True)
class TrainSettings:
    """A whole training run; `data`, `model` and `electrostatics` are checked by the packages that own them.

    `start` is read from `model`, which keeps the options of the architecture.
    """

    data: dict[str, Any]
    level: LevelSettings
    potential: PotentialSettings
    model: dict[str, Any]
    start: StartSettings = field(default_factory=StartSettings)
    delta: DeltaSettings = field(default_factory=DeltaSettings)
    electrostatics: dict[str, Any] = field(default_factory=lambda: {"name": "none"})
    loss: LossSettings = field(default_factory=LossSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    scheduler: SchedulerSettings = field(default_factory=SchedulerSettings)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    logger: LoggerSettings = field(default_factory=LoggerSettings)
    wandb: WandbSettings = field(default_factory=WandbSettings)
    prior: Literal["none", "force_constants"] = "none"
    seed: int = 0
    split_seed: int | None = None
    ensemble: int = 1
    resample: Literal["none", "bootstrap"] = "none"
    run_dir: str = "runs/run"
    cache_dir: str = "runs/bases"

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> TrainSettings:
        """Check a composed configuration.

        Raises:
            UserError: names the key.
        """
        model, start = values.get("model"), {}
        if isinstance(model, Mapping):  # what the network begins with is no option of its architecture
            names = [f.name for f in fields(StartSettings)]
            start = {name: model[name] for name in names if name in model}
            values = {**values, "model": {k: v for k, v in model.items() if k not in names}}
        settings = replace(read_settings(cls, values, ""), start=read_settings(StartSettings, start, "model"))
        check_limits(settings)
        if "name" not in settings.model:
            raise UserError("is missing", "set model=painn or another", "model.name")
        return settings
