"""Active learning: the choice is the Gaussian one, beats chance on a twin, and rounds with an engine add labels."""

from __future__ import annotations

import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms

from mlffx.active.__main__ import main
from mlffx.active.acquisition import Learner
from mlffx.active.linear import LinearProblem, rounds
from mlffx.active.selection import choose, conditioned, ensemble_factors
from mlffx.data.dataset import LabelledSet, load_dataset
from mlffx.data.twin import twin_potentials
from mlffx.errors import UserError
from mlffx.lattice import Phonons, conventional_matrix, finite_displacement
from mlffx.lattice.paths import labelled_points
from mlffx.potentials.batched import evaluate_atoms
from mlffx.training.run_directory import RunDirectory
from mlffx.training.settings import TrainSettings
from mlffx.training.task import prepare
from mlffx.training.train import train

CONF = Path(__file__).resolve().parents[2] / "conf"
TWIN = yaml.safe_load((CONF / "data" / "ionic_twin.yaml").read_text())
TWIN |= {"repetitions": [1, 1, 1], "n_frames": 120, "max_temperature": 300, "validation_size": None, "test_size": None}
MODEL = {"name": "force_constants", "cutoff": 4.2}


def test_conditioning_is_that_of_a_gaussian() -> None:
    rng = np.random.default_rng(0)
    pool, targets, variance = rng.normal(size=(7, 4)), rng.normal(size=(3, 4)), 0.3
    after, wanted = conditioned(pool, 2, variance, targets)
    covariance = np.linalg.inv(np.eye(4) + np.outer(pool[2], pool[2]) / variance)
    assert wanted is not None
    assert after @ after.T == pytest.approx(pool @ covariance @ pool.T)
    assert wanted @ wanted.T == pytest.approx(targets @ covariance @ targets.T)


def test_a_batch_never_holds_the_same_thing_twice() -> None:
    pool = np.array([[3.0, 0.0], [3.0, 0.01], [0.0, 2.0], [0.1, 0.1]])
    assert choose(pool, 2, noise=0.1).tolist() == [1, 2]
    assert sorted(choose(pool, 4, noise=0.1).tolist()) == [0, 1, 2, 3]
    assert choose(pool, 1, noise=np.array([9.0, 9.0, 0.1, 0.1])).tolist() == [2]  # noisy labels say little


def test_targets_decide_what_is_telling() -> None:
    pool = np.array([[3.0, 0.0], [0.0, 1.0]])
    assert choose(pool, 1, noise=0.1, targets=np.array([[0.0, 1.0]])).tolist() == [1]


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match="3 structures of a pool of 2"):
        choose(np.eye(2), 3, 0.1)
    with pytest.raises(UserError, match="no doubts"):
        ensemble_factors(np.ones((1, 4)))


@pytest.fixture(scope="module")
def data() -> LabelledSet:
    return load_dataset(TWIN)


def test_chosen_labels_beat_random_ones(data: LabelledSet) -> None:
    """Phonons of the twin from 20 labels, noise of 0.1 meV: chosen ones against random ones, over eight seeds."""
    settings = {"data": TWIN, "level": {"name": "high"}, "potential": {"kind": "delta"}, "model": MODEL}
    task = prepare(TrainSettings.read(settings))
    crystal = data.crystal
    assert crystal is not None
    matrix, q = conventional_matrix(crystal, 1), np.array([labelled_points(crystal)[p] for p in ("GAMMA", "X")])
    problem = LinearProblem.of(task, np.arange(len(data)), matrix)
    exact = {name: finite_displacement(p, crystal, matrix) for name, p in twin_potentials(TWIN).items()}
    truth = Phonons(exact["high"]).frequencies(q)
    errors: dict[str, list[float]] = {"random": [], "phonons": []}
    for seed in range(8):
        energies = task.energies + 1e-4 * np.random.default_rng(seed).normal(size=len(data))
        for strategy, found in errors.items():
            *_, (_, fit) = rounds(problem, energies, strategy, [12, 16, 20], seed)
            found.append(float(np.sqrt(np.mean((problem.frequencies(fit, exact["low"], q) - truth) ** 2))))
    assert np.mean(errors["phonons"]) < 0.8 * np.mean(errors["random"])


def test_rounds_are_nested(data: LabelledSet) -> None:
    settings = {"data": TWIN, "level": {"name": "high"}, "potential": {"kind": "delta"}, "model": MODEL}
    task = prepare(TrainSettings.read(settings))
    assert data.crystal is not None
    problem = LinearProblem.of(task, np.arange(40), conventional_matrix(data.crystal, 1))
    for strategy in ("random", "stratified", "energy", "phonons"):
        small, large = (
            set(frames.tolist()) for frames, _ in rounds(problem, task.energies[:40], strategy, [12, 20], 0)
        )
        assert len(small) == 12 and len(large) == 20 and small < large
    with pytest.raises(UserError, match="did you mean 'phonons'"):
        next(rounds(problem, task.energies, "phonon", [12], 0))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: LabelledSet) -> Path:
    """A delta on files: every structure has the low level, a third the high one."""
    tmp_path, atoms = tmp_path_factory.mktemp("active"), data.atoms[:60]
    levels = {"low": {"file": "low.xyz", "labels": ["energy", "forces"]}, "high": {"file": "high.xyz"}}
    for name, frames in (("low", atoms), ("high", atoms[::2])):
        write(tmp_path / f"{name}.xyz", name, frames)
    config = {"kind": "files", "name": "twin_files", "root": str(tmp_path), "low": "low", "levels": levels}
    config |= {"crystal": TWIN["crystal"], "validation_size": 3, "test_size": 5}
    base = {"data": config, "level": {"name": "low"}, "potential": {"kind": "direct"}, "model": MODEL}
    delta = {"data": config, "level": {"name": "high"}, "potential": {"kind": "delta"}, "model": MODEL}
    for values in (base, delta):
        values |= {"logger": {"name": "csv"}, "cache_dir": str(tmp_path / "bases"), "trainer": {"progress": False}}
    return train(delta, base, directory=tmp_path / "run")


def write(path: Path, level: str, frames: list[Atoms]) -> None:
    """Frames with the twin's energies (and forces of the low level)."""
    found = evaluate_atoms(twin_potentials(TWIN)[level], frames)
    assert found.forces is not None
    labelled = []
    for atoms, energy, forces in zip(frames, found.energies, found.forces, strict=True):
        copy = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
        copy.info["energy"] = energy
        if level == "low":
            copy.arrays["forces"] = forces
        labelled.append(copy)
    ase.io.write(path, labelled, format="extxyz")


ENGINE = """
import sys
sys.path.insert(0, {folder!r})
import ase.io
from test_active import write
from pathlib import Path
write(Path(sys.argv[2]), "high", ase.io.read(sys.argv[1], index=":"))
"""


def test_mistakes_on_the_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = f"out={tmp_path / 'next.xyz'}"
    for arguments, message in (
        (["choose", f"run={run}", out, "n=500", "samples=4"], "500 structures of a pool of 30"),
        (["choose", f"run={run}", out, "pool=absent.xyz", "samples=4"], "no such file"),
        (["choose", f"run={run}", out, "by=phonon"], "did you mean 'phonons'"),
        (["loop", f"run={run}", "samples=4", "engine=true"], "name both files"),
        (["loop", f"run={run}", "samples=4", "engine=false {structures} {labels}"], "the engine ended with status 1"),
        (["chose"], "did you mean 'choose'"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err


def test_choosing_and_a_round_with_an_engine(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learner = Learner.of(run, samples=6)
    assert len(learner.unlabelled()) == 30
    pool = [learner.task.dataset.atoms[k] for k in learner.unlabelled()]
    choice = learner.choose(pool, 6)
    assert len(set(choice.indices.tolist())) == 6 and choice.after < choice.before
    assert main(["choose", f"run={run}", "n=6", "samples=6", f"out={tmp_path / 'next.xyz'}"]) == 0
    asked = ase.io.read(tmp_path / "next.xyz", index=":")
    assert [a.info["pool_index"] for a in asked] == choice.indices.tolist()
    assert "doubt about force constants" in capsys.readouterr().out

    (tmp_path / "engine.py").write_text(ENGINE.format(folder=str(Path(__file__).parent)))
    engine = f"{sys.executable} {tmp_path / 'engine.py'} {{structures}} {{labels}}"
    assert main(["loop", f"run={run}", "rounds=1", "n=6", "samples=6", f"engine={engine}"]) == 0
    last = run.with_name("run-round1")
    assert RunDirectory(last).read_metrics()["train_frames"] == RunDirectory(run).read_metrics()["train_frames"] + 6
    assert len(ase.io.read(run.parent / "high.xyz", index=":")) == 36
