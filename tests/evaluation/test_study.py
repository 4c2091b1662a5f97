"""A study on the analytic twin, from nothing to its page: what is done is kept, what fails does not stop the rest."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from outline import Outline
from twin_runs import made_up_spectra

from mlffx.errors import UserError
from mlffx.evaluation.entry import entry_point
from mlffx.evaluation.measured import NOTHING
from mlffx.evaluation.settings import EvaluateSettings
from mlffx.evaluation.stored import Run
from mlffx.evaluation.study.kinds import agreements, beyond
from mlffx.evaluation.study.page import quoted
from mlffx.evaluation.study.plan import make_plan
from mlffx.evaluation.study.record import Record, span
from mlffx.evaluation.study.run import study
from mlffx.evaluation.study.settings import PresetSettings
from mlffx.training.train import cached_run

BROWSER = next((b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), None)
QUICK = ["phonons=quick", "phonons.mesh=5", "phonons.points_per_segment=7", "samples=4"]
SMALL = [
    "data=diamond_twin",
    "data.n_frames=30",
    "data.repetitions=[2,1,1]",
    "data.max_temperature=600",
    "data.test_size=5",
]
LINEAR = [*SMALL, "data.validation_size=5", "model=force_constants"]


def preset(output: Path) -> dict[str, Any]:
    """Two kinds that work, one that cannot (no neighbour within its cutoff)."""
    families = {
        "direct": {"title": "direct", "says": "energies", "train": LINEAR, "levels": ["low", "high"]},
        "delta": {
            "title": "delta",
            "says": "differences",
            "train": [*LINEAR, "potential=delta"],
            "levels": ["high"],
            "controls": {"high": ["frozen"]},
        },
        "broken": {"title": "broken", "says": "nothing", "train": [*LINEAR, "model.cutoff=0.7"], "levels": ["low"]},
    }
    crystal = {
        "title": "Twin",
        "families": families,
        "headline": {"low": "direct", "high": "delta"},
        "left_out": {"charges": "there are none"},
        "evaluate": QUICK,
    }
    return {
        "name": "twin",
        "title": "A <twin>",
        "output": str(output),
        "crystals": {"twin": crystal},
        "train": ["logger=csv"],
    }


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record]:
    output = tmp_path_factory.mktemp("study") / "twin"
    return output, study(preset(output), progress=False, command="python evaluate.py preset=twin")


def states(record: Record) -> dict[str, str]:
    return {name: outcome.state for name, outcome in record.outcomes.items()}


def test_what_fails_is_told_and_does_not_stop_the_rest(done: tuple[Path, Record]) -> None:
    output, record = done
    found = states(record)
    assert found.pop("twin/broken/low train") == "failed" and found.pop("twin/broken/low evaluate") == "impossible"
    assert set(found.values()) == {"finished"} and len(found) == 7
    stored = json.loads((output / "status.json").read_text())
    broken = stored["twin/broken/low train"]
    assert broken["reason"] and "Traceback" in Path(broken["log"]).read_text()
    assert stored["twin/direct/low train"]["seconds"] > 0


def test_a_second_call_repeats_nothing_and_a_lost_part_alone_is_done_again(done: tuple[Path, Record]) -> None:
    output, first = done
    plan = make_plan(PresetSettings.read(preset(output)))
    paths = {e.name: e.path for e in plan.entries}
    shutil.rmtree(paths["twin/direct/low"] / "evaluation")
    kept = paths["twin/delta/high"] / "evaluation" / "phonons.json"
    before = kept.stat().st_mtime_ns
    found = states(study(preset(output), progress=False))
    assert found["twin/direct/low evaluate"] == "finished" and found["twin/direct/low train"] == "reused"
    assert found["twin/delta/high evaluate"] == found["twin/delta/high controls"] == "reused"
    assert kept.stat().st_mtime_ns == before
    assert states(first)["twin/delta/high evaluate"] == "finished"


def test_other_settings_of_the_evaluation_evaluate_again_but_train_nothing(done: tuple[Path, Record]) -> None:
    from mlffx.evaluation.study.perform import done_before

    plan = make_plan(PresetSettings.read(preset(done[0])), ["phonons.mesh=7"])
    assert [done_before(p) for p in plan.parts if p.entry.family == "direct"] == [True, False, True, False]
    same = make_plan(PresetSettings.read(preset(done[0])))
    assert all(done_before(p) for p in same.parts if p.entry.family == "direct")
    assert not any(done_before(p, force=True) for p in same.parts if p.step == "evaluate")


def test_the_base_of_a_delta_is_the_run_of_its_own(done: tuple[Path, Record]) -> None:
    plan = make_plan(PresetSettings.read(preset(done[0])))
    delta = next(e for e in plan.entries if e.family == "delta")
    direct = next(e for e in plan.entries if e.name == "twin/direct/low")
    assert cached_run(delta.config["base"], delta.config["cache_dir"]) == direct.path
    assert json.loads((delta.path / "status.json").read_text())["state"] == "finished"


def test_the_page_tells_everything_in_order_and_loads_nothing(done: tuple[Path, Record]) -> None:
    text = (done[0] / "report.html").read_text()
    page = Outline(text)
    links = [a for a in page.addresses if not a.startswith(("data:", "#"))]
    assert len(links) == 3 and all((done[0] / link).is_file() for link in links)  # reports of the single runs
    assert "https://" not in text and "url(" not in text and "@import" not in text
    words = " ".join(page.words)
    chapters = ("A <twin>", "What was trained on what", "Controls", "Dispersion and densities", "Do the kinds")
    chapters += ("Single runs", "What is not here", "Left out", "Protocol and versions", "How to reproduce")
    places = [words.index(chapter) for chapter in chapters]
    assert places == sorted(places)
    assert "twin/broken/low train" in words and "charges" in words and "there are none" in words
    assert "Frozen" in words or "frozen" in words
    assert "L TA †" in words and "X TA †" not in words  # 2x1x1 cubes hold X, not L
    assert "not held by the cell of the labels (16 atoms), which holds Γ, X, W" in words
    data = re.search(r'<script type="application/json" id="twin-natural">(.*?)</script>', text, re.DOTALL)
    assert data is not None
    assert [s["name"] for s in json.loads(data.group(1))["series"]] == ["low, direct", "high, delta"]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1280, 500])
def test_the_page_lives_in_a_browser(done: tuple[Path, Record], tmp_path: Path, width: int) -> None:
    probe = """<script>
      const seen = [];
      window.addEventListener("error", e => seen.push(e.message));
      window.addEventListener("load", () => {
        document.querySelectorAll("details").forEach(d => { d.open = true; });
        const charts = document.querySelectorAll("svg.chart"), box = charts[0].getBoundingClientRect();
        charts[0].dispatchEvent(new PointerEvent("pointermove", {clientX: box.left + 60, clientY: box.top + 60}));
        const wide = document.documentElement.scrollWidth - window.innerWidth;
        const said = document.querySelector(".readout").textContent;
        document.title = JSON.stringify({charts: charts.length, wide, said, seen});
      });
    </script>"""
    probed = tmp_path / "probed.html"
    probed.write_text((done[0] / "report.html").read_text().replace("<style>", probe + "<style>", 1))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom"]
    command = [str(BROWSER), *flags, f"--window-size={width},900", f"--user-data-dir={tmp_path / 'browser'}"]
    dom = subprocess.run([*command, probed.as_uri()], capture_output=True, text=True, timeout=120).stdout
    found = re.search(r"<title>(\{.*?\})</title>", dom, re.DOTALL)
    assert found is not None, dom[:500]
    state = json.loads(found.group(1).replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))
    assert state["seen"] == [] and state["charts"] == 1
    assert state["wide"] <= 0  # nothing sticks out at the side, unfolded or not
    assert "cm⁻¹" in state["said"] and "q =" in state["said"]


def test_numbers_of_the_page_are_those_of_the_runs(done: tuple[Path, Record]) -> None:
    plan = make_plan(PresetSettings.read(preset(done[0])))
    run = Run.read(next(e.path for e in plan.entries if e.name == "twin/delta/high"))
    mode = run.mode("GAMMA", "LTO")
    assert mode is not None
    shown = f"{float(mode.mean):.1f} ± {float(mode.sigma):.1f}"
    assert shown in (done[0] / "report.html").read_text()
    assert shown in (done[0] / "tables.md").read_text()
    lines = (done[0] / "summary.csv").read_text().splitlines()
    assert len([line for line in lines if ",GAMMA,LTO," in line]) == 3


def test_the_command_line_takes_a_file_and_its_exit_status_tells_of_failures(
    done: tuple[Path, Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(preset(done[0]), sort_keys=False))
    with pytest.raises(SystemExit) as stopped:
        entry_point([f"preset={tmp_path / 'mine.yaml'}", "progress=false"])
    assert stopped.value.code == 1
    told = capsys.readouterr()
    assert "7 of 9 parts done, 2 not" in told.out and "twin/broken/low train" in told.out
    assert "[1/9] twin/direct/low train: done before" in told.err
    with pytest.raises(UserError, match="no such file"):
        entry_point(["preset=nowhere.yaml"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"crystal": {}}, "no such key 'crystal'; did you mean 'crystals'"),
        ({"crystals": {"twin": {"title": "t", "families": {}, "headline": {"low": "delta"}}}}, "no 'delta' here"),
    ],
)
def test_mistakes_in_a_preset_are_told_before_any_work(tmp_path: Path, change: Mapping[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        PresetSettings.read(preset(tmp_path) | change)


def test_a_misspelt_preset_or_override_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'paper'"):
        entry_point(["preset=papr"])
    with pytest.raises(UserError, match=r"phonons\.mesh"):
        make_plan(PresetSettings.read(preset(tmp_path)), ["phonons.mash=3"])
    with pytest.raises(UserError, match="brings its own runs"):
        entry_point(["preset=paper", f"run={tmp_path}"])


def test_levels_without_a_file_are_left_out_with_the_reason(paper_data: Path) -> None:
    settings = EvaluateSettings.compose(["preset=paper", f"preset.train=['logger=csv','data.root={paper_data}']"])
    plan = make_plan(PresetSettings.read(settings.preset))
    names = {e.name for e in plan.entries}
    assert {"diamond/delta/ccsdt", "lih/ladder/ccsdt", "lih/charge_aware/dft"} <= names
    for x in plan.left_out:
        assert x.reason
    base = next(e for e in plan.entries if e.name == "diamond/delta/dft")
    delta = next(e for e in plan.entries if e.name == "diamond/delta/ccsdt")
    assert cached_run(delta.config["base"], delta.config["cache_dir"]) == base.path  # trained once
    small = EvaluateSettings.compose(["preset=paper_small", f"preset.train=['logger=csv','data.root={paper_data}']"])
    fewer = make_plan(PresetSettings.read(small.preset))
    assert 5 < len(fewer.entries) < len(names) / 2
    assert {p.step for p in fewer.parts} == {"train", "evaluate"}


def made_up(shift: float, seed: int = 0) -> Run:
    spectra = made_up_spectra(n_members=8, scale=1 + shift, seed=seed)
    return Run(Path("."), {}, spectra, None, {}, NOTHING)


def test_kinds_agree_within_their_bars_and_disagree_beyond() -> None:
    same, far = agreements("high", {"a": made_up(0.0), "b": made_up(0.003, 1), "c": made_up(0.2, 2)})[:2]
    assert same.word == "agree" and (same.first, same.second) == ("a", "b")
    assert far.word == "disagree" and far.worst[1] < 0
    assert beyond(1) == pytest.approx(1.96, abs=0.01) and beyond(10) > beyond(1)
    single = Run(Path("."), {}, made_up_spectra(n_members=1), None, {}, NOTHING)
    (unknown,) = agreements("high", {"a": made_up(0.0), "b": single})
    assert unknown.word == "cannot tell" and np.isnan(unknown.sigma)


def test_times_and_commands_are_written_as_people_read_and_type_them() -> None:
    assert [span(s) for s in (4.2, 180, 4800)] == ["4 s", "3 min", "1 h 20 min"]
    assert quoted("model.angle_orders=[]") == "'model.angle_orders=[]'" and quoted("level=hf") == "level=hf"
