"""Dashboards for W&B, as code: one for a training run, one for learning curves, one for phonons against experiment.

pip install wandb-workspaces
python sweeps/wandb_dashboards.py ENTITY              makes the three in the project mlffx and prints where they are
python sweeps/wandb_dashboards.py ENTITY --project P
python sweeps/wandb_dashboards.py --print             shows what each plots; needs no account
"""

from __future__ import annotations

import argparse
from typing import Any

MODES = ("GAMMA_LTO", "GAMMA_TO", "GAMMA_LO", "X_TA", "X_TO", "X_LA/LO", "L_TA", "L_LA", "L_LO", "L_TO")


def training(ws: Any, wr: Any) -> list[Any]:
    """Sections of one training run: errors with units, then what explains them."""

    def line(title: str, *metrics: str, log: bool = True) -> Any:
        return wr.LinePlot(title=title, x="epoch", y=list(metrics), log_y=log, title_x="epoch")

    errors = [
        line("Energy error, validation (meV/atom)", "val_energy_rmse_meV_per_atom"),
        line("Force error, validation (meV/A)", "val_forces_rmse_meV_per_A"),
        line("Loss (variances of the targets)", "train_loss", "val_loss"),
    ]
    course = [
        line("Learning rate", "learning_rate", log=False),
        line("Gradient norm before clipping", "gradient_norm", "gradient_norm_max"),
        line("Structures per second", "structures_per_second", log=False),
        line("Charges, rms (e)", "val_charge_rms_e", log=False),
    ]
    modes = [line(f"{mode} (cm-1)", f"phonons/{mode}_cm1", log=False) for mode in MODES[:6]]
    return [
        ws.Section(name="Errors", panels=errors, is_open=True),
        ws.Section(name="Course of the optimisation", panels=course, is_open=True),
        ws.Section(name="Phonons during training (wandb.phonons_every)", panels=modes, is_open=False),
    ]


def learning_curves(ws: Any, wr: Any) -> list[Any]:
    """Held-out errors against the number of frames; a point a run, colours by architecture through the grouping."""

    def scatter(title: str, metric: str) -> Any:
        return wr.ScatterPlot(
            title=title,
            x=wr.SummaryMetric("train_frames"),
            y=wr.SummaryMetric(metric),
            log_x=True,
            log_y=True,
        )

    held_out = [
        scatter("Energy error, held out (meV/atom)", "test_energy_rmse_meV_per_atom"),
        scatter("Error of the difference, held out (meV/atom)", "test_difference_energy_rmse_meV_per_atom"),
        scatter("Force error, held out (meV/A)", "test_forces_rmse_meV_per_A"),
    ]
    course = wr.LinePlot(
        title="Energy error, validation (meV/atom): mean and standard error over seeds",
        x="epoch",
        y=["val_energy_rmse_meV_per_atom"],
        log_y=True,
        groupby=wr.Config("model.name"),
        groupby_aggfunc="mean",
        groupby_rangefunc="stderr",
    )
    return [
        ws.Section(name="Held-out errors", panels=held_out, is_open=True),
        ws.Section(name="On the way", panels=[course], is_open=True),
    ]


def phonons(ws: Any, wr: Any) -> list[Any]:
    """Frequencies of evaluations with their sigma, their distance from experiment, and the tables."""
    against = [
        wr.BarPlot(title="Mean absolute distance from experiment (cm-1)", metrics=["experiment/all_model_mae"]),
        wr.BarPlot(title="... of the low level (cm-1)", metrics=["experiment/all_low_level_mae"]),
        wr.BarPlot(title="Bias against experiment (cm-1)", metrics=["experiment/all_model_bias"]),
        wr.BarPlot(title="Reduced chi-square, both sigmas", metrics=["experiment/all_model_chi2_total"]),
    ]
    modes = [
        wr.BarPlot(title=f"{mode} (cm-1)", metrics=[f"phonons/{mode}_cm1", f"phonons/{mode}_sigma_cm1"])
        for mode in MODES
    ]
    tables = [wr.WeavePanelSummaryTable(table_name="phonons"), wr.WeavePanelSummaryTable(table_name="parity")]
    return [
        ws.Section(name="Against experiment", panels=against, is_open=True),
        ws.Section(name="Frequencies", panels=modes, is_open=True),
        ws.Section(name="Tables: q, branch, frequency, sigma, experiment; parity", panels=tables, is_open=True),
    ]


NAMES = {"mlffx: training": training, "mlffx: learning curves": learning_curves, "mlffx: phonons": phonons}


def workspaces(entity: str, project: str) -> list[Any]:
    """The three dashboards, not yet sent anywhere."""
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    filters = {phonons: "evaluation", training: "training", learning_curves: "training"}
    return [
        ws.Workspace(
            entity=entity,
            project=project,
            name=name,
            sections=build(ws, wr),
            settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=50),
            runset_settings=ws.RunsetSettings(filters=f"Metric('JobType') = '{filters[build]}'"),
            auto_generate_panels=False,
        )
        for name, build in NAMES.items()
    ]


def panels(workspace: Any) -> list[tuple[str, list[str]]]:
    """Title and metrics of every panel."""
    found = []
    for panel in (p for section in workspace.sections for p in section.panels):
        axes = [getattr(panel, "y", None) or getattr(panel, "metrics", None) or [getattr(panel, "table_name", "")]]
        metrics = axes[0] if isinstance(axes[0], list) else [axes[0]]
        found.append((getattr(panel, "title", None) or "table", [getattr(m, "name", m) for m in metrics]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entity", nargs="?", default="ENTITY", help="your name or team at W&B")
    parser.add_argument("--project", default="mlffx")
    parser.add_argument("--print", action="store_true", dest="show", help="only show what would be made")
    arguments = parser.parse_args()
    for workspace in workspaces(arguments.entity, arguments.project):
        if arguments.show or arguments.entity == "ENTITY":
            print(workspace.name)
            for title, metrics in panels(workspace):
                print(f"  {title}: {', '.join(metrics)}")
        else:
            print(f"{workspace.name}: {workspace.save().url}")


if __name__ == "__main__":
    main()
