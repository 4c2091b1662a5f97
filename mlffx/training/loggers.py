"""Weights & Biases beside metrics.csv: offline by default, and never a reason for a run to fail or to wait."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlffx.files import write_atomically
from mlffx.training.run_directory import RunDirectory
from mlffx.training.settings import TrainSettings, WandbSettings

INIT_SECONDS = 20.0  # for the server to answer at the beginning
FINISH_SECONDS = 60.0  # for it to take what is left at the end; the rest stays on disk
IDENTITY = "wandb.json"  # what resuming, deltas and evaluations find a run by


def build_logger(settings: TrainSettings, directory: RunDirectory, member: int) -> TrainingRun | None:
    """The logger of one member; None where metrics.csv is all that is wanted."""
    if settings.logger.name != "wandb" or settings.wandb.mode == "disabled":
        return None
    return TrainingRun(settings, directory, member)


def patience(seconds: float) -> float:
    """Longest wait for the server; MLFFX_WANDB_PATIENCE (seconds) shortens or lengthens all of them."""
    return float(os.environ.get("MLFFX_WANDB_PATIENCE", seconds))


def answer() -> None:
    """Ask W&B's server for a sign of life.

    Raises:
        OSError: when it cannot be reached in time, or answers with an error of its own.
    """
    import wandb

    url = wandb.setup().settings.base_url.rstrip("/") + "/healthz"
    try:
        urllib.request.urlopen(url, timeout=min(patience(INIT_SECONDS), INIT_SECONDS)).close()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code >= 500:  # anything else comes from a server that works
            raise OSError(f"{url} answers with {error.code}") from None
    except OSError as error:
        raise OSError(f"{url} cannot be reached ({error})") from None


class WandbRun:
    """A W&B run with its files in `folder/wandb`.

    What goes wrong with W&B is told once in a warning. A server that cannot be reached at the beginning makes the run
    an offline one; one that is lost later is not waited for: `wandb sync` sends what it misses.

    Args:
        settings: of W&B.
        folder: where to.
        kind: job type, `training` or `evaluation`.
        about: further arguments of wandb.init.
    """

    def __init__(self, settings: WandbSettings, folder: Path, kind: str, **about: Any) -> None:
        self.settings, self.folder, self.kind, self.about = settings, folder, kind, about
        self.run: Any = None
        self.online = settings.mode == "online"
        self._warned = False
        self.attempt(self._start, settings.mode)
        if self.run is None and self.online:
            self.online = False
            self.attempt(self._start, "offline")

    def _start(self, mode: Any) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        if mode == "online":
            answer()
        elif self.settings.mode == "online":
            wandb.teardown()  # of what has failed to go online: its service knows the run already
        s = self.settings
        self.run = wandb.init(
            project=s.project,
            entity=s.entity,
            job_type=self.kind,
            mode=mode,
            dir=str(self.folder),
            reinit="create_new",
            settings=wandb.Settings(
                init_timeout=patience(INIT_SECONDS),
                finish_timeout=patience(FINISH_SECONDS),
                console="off",
                silent=True,
            ),
            **self.about,
        )

    def log(self, values: Mapping[str, Any]) -> None:
        """Add a row, or tables and figures."""
        self.ask(lambda run: run.log(dict(values)))

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Numbers of the run as a whole."""
        self.ask(lambda run: run.summary.update(dict(values)))

    def put_out(self, name: str, kind: str, files: Mapping[str, Path], **metadata: Any) -> None:
        """Log an artifact that this run made. Offline too: the files are sent from where they are."""

        def log(run: Any) -> None:
            if self.online:
                answer()  # W&B would wait for its server here
            run.log_artifact(_artifact(name, kind, files, metadata))

        self.ask(log)

    def take_in(self, name: str, kind: str, files: Mapping[str, Path]) -> None:
        """Declare an artifact of another run as what this one begins with: same name and content, same version.

        W&B refuses `use_artifact` offline, though its files can say the same: hence the inner method.
        """

        def declare(run: Any) -> None:
            artifact = _artifact(name, kind, files, {})
            if not self.online:
                run._log_artifact(artifact, is_user_created=True, use_after_commit=True)
            else:
                answer()
                run.use_artifact(artifact)

        self.ask(declare)

    def close(self, exit_code: int = 0) -> None:
        """End the run and flush its files."""
        self.ask(lambda run: run.finish(exit_code))
        self.run = None

    def ask(self, action: Callable[[Any], Any]) -> None:
        """Something of the W&B run, if there is one."""
        if self.run is not None:
            self.attempt(action, self.run)

    def attempt(self, action: Callable[..., Any], *arguments: Any) -> None:
        """Something that must not fail our run; told once if it does not work."""
        try:
            action(*arguments)
        except Exception as error:
            if not self._warned:
                reason = " ".join(str(error).split())[:200]
                advice = "metrics.csv has everything, and `wandb sync` sends later what is in wandb/"
                print(f"W&B: {type(error).__name__}: {reason}; {advice}", file=sys.stderr)
            self._warned = True


def _artifact(name: str, kind: str, files: Mapping[str, Path], metadata: dict[str, Any]) -> Any:
    import wandb

    artifact = wandb.Artifact(name, type=kind, metadata=metadata)
    for inside, path in files.items():
        artifact.add_file(str(path), name=inside, policy="immutable", skip_cache=True)
    return artifact


class TrainingRun(WandbRun):
    """The W&B run of one member: a row an epoch, and the potential as an artifact that knows what it stands on.

    `wandb.json` in the member's directory keeps the run's id: a resumed member goes on with the same run.
    """

    def __init__(self, settings: TrainSettings, directory: RunDirectory, member: int) -> None:
        self.directory = directory
        top = directory.path.parent.parent if settings.ensemble > 1 else directory.path
        environment = _json(top / "environment.json")
        known = read_identity(directory.path)
        run_id = str(known.get("id") or uuid.uuid4().hex[:8])
        s = settings.wandb
        group = s.group or (top.name if settings.ensemble > 1 else None)
        identity = {
            "id": run_id,
            "project": s.project,
            "entity": s.entity,
            "group": group,
            "artifact": f"model-{run_id}",
        }
        directory.path.mkdir(parents=True, exist_ok=True)  # members trained in turn come here before their checkpoints
        write_atomically(directory.path / IDENTITY, json.dumps(identity, indent=1))
        config = asdict(settings) | {
            "member": member,
            "directory": str(directory.path),
            "commit": environment.get("commit"),
            "data_sha256": environment.get("data", {}),
            "versions": environment.get("versions", {}),
        }
        super().__init__(
            s,
            directory.path,
            "training",
            id=run_id,
            resume="allow",
            name=f"{top.name}-{member}" if settings.ensemble > 1 else top.name,
            group=group,
            tags=_tags(settings, top.name),
            config=config,
        )
        self.name = identity["artifact"]
        self.ask(lambda run: run.define_metric("epoch"))
        self.ask(lambda run: run.define_metric("*", step_metric="epoch"))
        for base in _base_of(environment.get("base"), member):
            begun = read_identity(base.path)
            name = begun.get("artifact") or f"model-{base.path.name}"
            self.take_in(str(name), "model", {"best.ckpt": base.best})

    def deliver(self) -> None:
        """The trained potential."""
        self.put_out(str(self.name), "model", {"best.ckpt": self.directory.best})


def _tags(settings: TrainSettings, name: str) -> list[str]:
    """What a run is, what the user says of it, and what a sweep varies (its jobs are named `model=painn,seed=0`)."""
    own = [settings.potential.kind, settings.level.name, str(settings.model["name"])]
    varied = [part for part in name.split(",") if "=" in part]
    return [tag[:64] for tag in dict.fromkeys([*own, *settings.wandb.tags, *varied])]  # W&B refuses longer ones


def member_directories(run: Path) -> list[RunDirectory]:
    """Where the members of a run are; the run itself where there is one."""
    folders = [f for f in (run / "members").glob("*") if f.name.isdigit()]
    return [RunDirectory(f) for f in sorted(folders, key=lambda f: int(f.name))] or [RunDirectory(run)]


def read_identity(directory: Path) -> dict[str, Any]:
    """Content of wandb.json; empty where there is none."""
    return _json(directory / IDENTITY)


def _base_of(run: str | None, member: int) -> list[RunDirectory]:
    """What a member's delta stands on: the matching member of a run; nothing where the base is no run."""
    if run is None:
        return []
    found = member_directories(Path(run))
    base = found[member % len(found)]
    return [base] if base.best.is_file() else []


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
