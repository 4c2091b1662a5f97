"""Runs that are told to stop, killed, or run out of disk: what is left is whole, says what happened, and can go on."""

from __future__ import annotations

import functools
import json
import os
import resource
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import separate
import torch
from run_files import rows, same, timeless, weights
from small_twin import QUICK

from mlffx.command_line import run_checked
from mlffx.training.checkpoints import FORMAT, FORMAT_VERSION
from mlffx.training.entry import entry_point
from mlffx.training.epoch_metrics import EpochMetrics

RUN = [*QUICK, "level=low"]


def status(run):
    return json.loads((run / "status.json").read_text())


def same_run(one, two):
    """Weights and rows, bit by bit."""
    c, d = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in (one, two))
    return same(weights(one), weights(two)) and same(c, d) and timeless(one) == timeless(two)


def signal_at(monkeypatch, number, epoch, batch):
    """Send this process a signal in the middle of training, once."""
    ended, sent = EpochMetrics.on_train_batch_end, []

    def end(self, trainer, module, outputs, data, index):
        ended(self, trainer, module, outputs, data, index)
        if (trainer.current_epoch, index) == (epoch, batch) and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    monkeypatch.setattr(EpochMetrics, "on_train_batch_end", end)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The unbroken run."""
    folder = tmp_path_factory.mktemp("whole")
    entry_point([*RUN, f"run_dir={folder / 'run'}"])
    return folder / "run"


@pytest.mark.parametrize(
    "number, batch, exit_status",
    [(signal.SIGTERM, 1, 143), (signal.SIGUSR1, 4, 138), (signal.SIGINT, 0, 130)],
    ids=["SIGTERM", "SIGUSR1 in the last step of an epoch", "Ctrl-C"],
)
def test_a_signal_ends_a_run_after_a_checkpoint(number, batch, exit_status, whole, tmp_path, monkeypatch, capsys):
    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip("started in the background of a shell, where Ctrl-C is ignored")
    run = tmp_path / "run"
    signal_at(monkeypatch, number, 1, batch)
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended:
        run_checked(lambda: entry_point([*RUN, f"run_dir={run}"]))
    assert ended.value.code == exit_status
    assert signal.getsignal(number) == before
    assert status(run)["state"] == "interrupted"
    assert status(run)["reason"] == f"interrupted by {number.name}"
    stored = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert stored["global_step"] == 5 + batch + 1, "the step of the signal is part of the checkpoint"
    assert "resume=" in capsys.readouterr().err
    entry_point([f"resume={run}"])
    assert same_run(whole, run)


def test_the_last_checkpoint_carries_a_version(whole, tmp_path, complaint):
    """An older one is upgraded, a newer one and a damaged one are refused in a sentence."""
    stored = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)
    assert stored[FORMAT] == FORMAT_VERSION
    run, path = tmp_path / "run", tmp_path / "run" / "checkpoints" / "last.ckpt"
    entry_point([*[o for o in RUN if "max_epochs" not in o], "trainer.max_epochs=4", f"run_dir={run}"])
    (run / "status.json").unlink()
    first = {k: v for k, v in stored.items() if k != FORMAT}  # as mlffx 0.1.0 wrote them
    first["callbacks"] = {k: v for k, v in first["callbacks"].items() if "EpochMetrics" not in k}
    torch.save(first, path)
    entry_point([f"resume={run}"])
    assert status(run)["state"] == "finished"
    for content, words in (
        (stored | {FORMAT: FORMAT_VERSION + 1}, ["newer mlffx", "update"]),
        ({FORMAT: 0, "something": 1}, ["format 0", "begin again"]),
    ):
        (run / "status.json").unlink()
        torch.save(content, path)
        line = complaint(f"resume={run}")
        assert all(word in line for word in [*words, "last.ckpt"]), line
    path.write_bytes(path.read_bytes()[:100])
    assert "unreadable checkpoint" in complaint(f"resume={run}")
    assert status(run)["state"] == "failed"


def test_another_configuration_in_the_same_directory_is_refused(tmp_path, monkeypatch, complaint):
    run = tmp_path / "run"
    signal_at(monkeypatch, signal.SIGTERM, 1, 1)
    with pytest.raises(SystemExit):
        run_checked(lambda: entry_point([*RUN, f"run_dir={run}"]))
    line = complaint(*RUN, "model.n_hidden=16", f"run_dir={run}")
    assert "model" in line and f"resume={run}" in line


def little_disk(size):
    """No file may grow beyond a size: what a full disk or a quota looks like to the program."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def nobody():
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)


def one_line(said):
    lines = said.read_text().strip().splitlines()
    assert lines[-1].startswith("error: "), lines
    assert "Traceback" not in said.read_text()
    return lines[-1]


def test_a_full_disk_is_told_in_one_line(whole, tmp_path):
    run, said = tmp_path / "run", tmp_path / "said"
    limit = (whole / "checkpoints" / "last.ckpt").stat().st_size - 1000
    assert separate.run([*RUN, f"run_dir={run}"], said, functools.partial(little_disk, limit)) == 2
    line = one_line(said)
    assert "last.ckpt" in line and "cannot be written" in line and "resume=RUN_DIR" in line
    assert status(run)["state"] == "failed"
    assert not list(run.rglob("*.part")), "half a file is left"
    assert separate.run([f"resume={run}"], said) == 0
    assert same_run(whole, run)


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user's rights, which only root can")
def test_a_read_only_run_directory_is_told_in_one_line(tmp_path):
    said = tmp_path / "said"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        assert separate.run([*RUN, f"run_dir={folder / 'run'}"], said, nobody) == 2
        line = one_line(said)
        assert str(folder) in line and "Permission denied" in line and "run_dir" in line
        assert not list(folder.iterdir())


def test_too_little_memory_is_told_with_what_to_change(complaint, tmp_path):
    line = complaint(*RUN, "model.n_hidden=3000000", f"run_dir={tmp_path / 'run'}")
    assert "out of memory" in line and "trainer.batch_size" in line and "model.cutoff" in line
    assert not (tmp_path / "run").exists()


def kill_at_random(run, said, times, rng, unbroken):
    """Start a run and kill it, `times` times over; then let it finish. Returns how often it was really killed."""
    killed = 0
    for _ in range(times):
        process = separate.start([*RUN, f"run_dir={run}"], said)
        time.sleep(rng.uniform(0.1, unbroken))
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        if run.is_dir() and (run / "status.json").exists() and status(run)["state"] == "finished":
            break
    if status(run)["state"] != "finished":
        assert separate.run([*RUN, f"run_dir={run}"], said) == 0, said.read_text()
    return killed


def survive(whole, tmp_path, kills):
    """Runs killed at random moments, `kills` times in all; each ends with the weights of the unbroken one."""
    said, rng = tmp_path / "said", np.random.default_rng(kills)
    assert separate.run([*RUN, f"run_dir={tmp_path / 'first'}"], said) == 0  # imports everything
    began = time.monotonic()
    assert separate.run([*RUN, f"run_dir={tmp_path / 'second'}"], said) == 0
    unbroken, done, k = time.monotonic() - began, 0, 0
    while done < kills:
        run, k = tmp_path / f"run{k}", k + 1
        done += kill_at_random(run, said, kills - done, rng, unbroken)
        assert same_run(whole, run)
        assert "Traceback" not in said.read_text()


def test_killed_runs_end_with_the_same_weights(whole, tmp_path):
    survive(whole, tmp_path, 2)


@pytest.mark.slow
def test_killed_twenty_times(whole, tmp_path):
    survive(whole, tmp_path, 20)


@pytest.mark.slow
@pytest.mark.parametrize(
    "several", [["ensemble=2", "trainer.workers=2"], ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]]
)
def test_a_signal_reaches_the_processes_a_run_has_started(several, tmp_path):
    """Members side by side, and one network on two devices: each writes its checkpoint, none is left behind."""
    run, said = tmp_path / "run", tmp_path / "said"
    setup = [o for o in RUN if "max_epochs" not in o]
    process = separate.start([*setup, *several, "trainer.max_epochs=2000", f"run_dir={run}"], said)
    places = [run / "members" / k for k in "01"] if "ensemble=2" in several else [run]
    deadline = time.monotonic() + 240
    while not all((p / "checkpoints" / "last.ckpt").exists() for p in places):
        assert time.monotonic() < deadline and process.is_alive(), said.read_text()
        time.sleep(0.2)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(process.pid, signal.SIGTERM)
    process.join(60)
    assert process.exitcode == 143, said.read_text()
    assert status(run)["reason"] == "interrupted by SIGTERM"
    for place in places:
        stored = torch.load(place / "checkpoints" / "last.ckpt", weights_only=True)
        assert stored["global_step"] >= 5 * len(rows(place)) > 0
    assert children and not any(Path(f"/proc/{child}").exists() for child in children)
    assert "Traceback" not in said.read_text()
