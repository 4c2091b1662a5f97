"""From overrides and files to jobs and their names; nothing is run."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mlffx.errors import UserError
from mlffx.sweeps.plan import FILES, job_name, read_sweep


def write(path: Path, **content: object) -> str:
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_all_combinations_with_the_last_axis_fastest():
    jobs = read_sweep(None, ["model=painn,mace", "data.train_size=25,50", "optimizer.lr=1e-3"]).jobs()
    assert [j.name for j in jobs] == [
        "model=painn,train_size=25",
        "model=painn,train_size=50",
        "model=mace,train_size=25",
        "model=mace,train_size=50",
    ]
    assert jobs[1].overrides == ["optimizer.lr=1e-3", "model=painn", "data.train_size=50"]


def test_axes_with_the_same_last_name_keep_their_whole_names():
    (job, *_) = read_sweep(None, ["loss.energy.weight=1,2", "loss.forces.weight=1,2"]).jobs()
    assert set(job.values) == {"loss.energy.weight", "loss.forces.weight"}


def test_the_same_command_is_the_same_sweep_and_another_one_is_not():
    name = read_sweep(None, ["model=painn,mace", "seed=0,1"]).name
    assert name == read_sweep(None, ["seed=0,1", "model=painn,mace"]).name.replace("seed-model", "model-seed")
    assert name != read_sweep(None, ["model=painn,mace", "seed=0,1", "trainer.max_epochs=3"]).name


def test_values_that_are_no_file_names_stay_apart():
    names = {job_name({"base": value}) for value in ("a/b", "a:b", "a b", "a_b")}
    assert len(names) == 4
    assert not any("/" in name for name in names)
    assert len(job_name({"x": "y" * 500})) < 200


def test_a_file_declares_axes_that_go_together_and_the_command_line_narrows_them(tmp_path):
    file = write(
        tmp_path / "sizes.yaml",
        overrides=["data=diamond_twin", "seed=0,1", "optimizer.lr=1e-3"],
        axes={"size": {20: ["data.train_size=20", "trainer.max_epochs=8"], 40: ["data.train_size=40"]}},
    )
    asked = read_sweep(file, ["seed=1", "size=40", "optimizer.lr=5e-3"])
    assert asked.name == "sizes"
    (job,) = asked.jobs()
    assert job.name == "size=40,seed=1", "the name of a job does not depend on what else is asked for"
    assert job.overrides == ["data=diamond_twin", "optimizer.lr=5e-3", "data.train_size=40", "seed=1"]
    names = [j.name for j in read_sweep(file, []).jobs()]
    assert job.name in names
    assert len(names) == 4


def test_every_value_is_probed_once():
    probes = read_sweep(None, ["model=painn,mace", "seed=0,1,2"]).probes()
    assert [j.name for j in probes] == [
        "model=painn,seed=0",
        "model=mace,seed=0",
        "model=painn,seed=1",
        "model=painn,seed=2",
    ]


@pytest.mark.parametrize(
    ("content", "overrides", "wanted"),
    [
        ({"axes": {"size": {20: ["seed=1"]}}}, ["size=30"], ["size", "30", "20"]),
        ({"axes": {"size": {20: "seed=1"}}}, [], ["axes.size.20", "list of overrides"]),
        ({"axes": {"size": []}}, [], ["axes.size", "no values"]),
        ({"overides": []}, [], ["overides", "overrides"]),
        ({"overrides": [{"seed": 1}]}, [], ["overrides", "KEY=VALUE"]),
        ({"overrides": ["seed"]}, [], ["seed", "KEY=VALUE"]),
    ],
)
def test_mistakes_in_a_file_name_their_place(tmp_path, content, overrides, wanted):
    with pytest.raises(UserError) as error:
        read_sweep(write(tmp_path / "bad.yaml", **content), overrides)
    for word in wanted:
        assert word in str(error.value)


def test_a_file_that_is_not_there():
    with pytest.raises(UserError, match="did you mean 'learning_curves'"):
        read_sweep("learning_curve", [])


OWN = sorted(path for path in FILES.glob("*.yaml") if not path.stem.startswith("wandb"))  # those are of W&B's format


@pytest.mark.parametrize("path", OWN, ids=lambda p: p.stem)
def test_the_shipped_sweeps_have_jobs(path):
    asked = read_sweep(path.stem, [])
    jobs = asked.jobs()
    assert len({job.name for job in jobs}) == len(jobs) >= 1
    assert asked.name == path.stem
