"""An evaluation as a W&B run of its own, linked to the training runs its potentials come from."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlffx.files import write_atomically
from mlffx.training.loggers import IDENTITY, WandbRun, member_directories, read_identity

if TYPE_CHECKING:
    from mlffx.evaluation.run import Evaluation

PHONON_COLUMNS = ("isotope", "q", "qx", "qy", "qz", "branch", "frequency_cm1", "sigma_cm1")
MEASURED_COLUMNS = ("experiment_cm1", "experiment_sigma_cm1", "low_level_cm1", "source")
PARITY_COLUMNS = ("label_meV_per_atom", "prediction_meV_per_atom", "amplitude_A", "held_out")
FILES = ("phonons.json", "comparison.csv", "phonopy_params.yaml", "report.html")


def publish(result: Evaluation) -> None:
    """Send tables, frequencies and files of an evaluation as the run was logged: not at all, offline, or online."""
    settings = result.settings
    if settings.logger.name != "wandb" or settings.wandb.mode == "disabled":
        return
    members = member_directories(result.run.path)
    trained = [read_identity(m.path) for m in members]
    run_id = str(read_identity(result.directory).get("id") or uuid.uuid4().hex[:8])
    write_atomically(result.directory / IDENTITY, json.dumps({"id": run_id}, indent=1))
    run = WandbRun(
        settings.wandb,
        result.directory,
        "evaluation",
        id=run_id,
        resume="allow",
        name=f"{result.run.path.name}-evaluation",
        group=next((t["group"] for t in trained if t.get("group")), None) or settings.wandb.group,
        tags=[settings.potential.kind, settings.level.name, str(settings.model["name"]), *settings.wandb.tags],
        config={
            "training_runs": [t.get("id") for t in trained],
            "directory": str(result.run.path),
            "protocol": result.protocol,
            "phonons": asdict(result.phonon_settings),
        },
    )
    for member, identity in zip(members, trained, strict=True):
        run.take_in(str(identity.get("artifact") or f"model-{member.path.name}"), "model", {"best.ckpt": member.best})
    run.attempt(lambda: run.log(_tables(result)))
    run.summarise(_summary(result))
    files = {name: result.directory / name for name in FILES if (result.directory / name).is_file()}
    run.put_out(f"evaluation-{run_id}", "evaluation", files)
    run.close()


def _tables(e: Evaluation) -> dict[str, Any]:
    import wandb

    phonons = wandb.Table(columns=[*PHONON_COLUMNS, *MEASURED_COLUMNS])
    for r in e.rows:
        about = (r.isotope, r.q_label, r.qx, r.qy, r.qz, r.branch, r.model_cm1, r.model_sigma_cm1)
        phonons.add_data(*about, r.experiment_cm1, r.experiment_sigma_cm1, r.low_level_cm1, r.source or "")
    parity = wandb.Table(columns=list(PARITY_COLUMNS))
    d = e.residuals
    centre = float(d.label.mean())  # only differences of energies have a meaning
    for label, prediction, amplitude, held_out in zip(d.label, d.prediction, d.amplitude, d.held_out, strict=True):
        parity.add_data(float(label) - centre, float(prediction) - centre, float(amplitude), bool(held_out))
    return {"phonons": phonons, "parity": parity}


def _summary(e: Evaluation) -> dict[str, Any]:
    """Frequencies by name, and how far they are from experiment."""
    found: dict[str, Any] = {}
    for r in e.rows:
        if r.isotope == e.model.isotope:
            found[f"phonons/{r.q_label}_{r.branch}_cm1"] = r.model_cm1
            if r.model_sigma_cm1 is not None:
                found[f"phonons/{r.q_label}_{r.branch}_sigma_cm1"] = r.model_sigma_cm1
    for group, columns in e.scores.items():
        for column, score in columns.items():
            found |= {f"experiment/{group}_{column}_{k}": v for k, v in asdict(score).items() if v is not None}
    return found
