"""The page: self-contained, complete, and alive in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from outline import Outline
from twin_runs import made_up_spectra

from mlffx.evaluation.comparison import Measured, compare, score_groups
from mlffx.evaluation.controls import Verdict
from mlffx.evaluation.report import Page, PageFile, Tile, colours, flatten, write_report
from mlffx.evaluation.report_rows import with_sigma

BROWSER = next((b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), None)
RAMAN = Measured("GAMMA", "LTO", 1332.5, 0.5, "Solin & Ramdas <1970>")
HARMONIC = Measured("GAMMA", "LTO", 1346.2, 2.1, "Raman plus anharmonic shift")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    model, low = made_up_spectra("CCSD(T) delta"), made_up_spectra("DFT", 1, 0.95)
    rows = compare("diamond", model, low, [RAMAN])
    (tmp_path / "comparison.csv").write_text("material\n")
    content = Page(
        title="diamond </script><b>: CCSD(T)",
        subtitle="four members",
        tiles=[Tile("CCSD(T)", "1300.0 ± 1.0", "cm-1")],
        rows=rows,
        model_name=model.name,
        low_name=low.name,
        series=colours([model], low),
        measured=[RAMAN],
        harmonic=[HARMONIC],
        spread_from="ensemble",
        training=[("data", "diamond")],
        protocol=list(flatten({"displacement": 0.01, "raw": {"sum rule": 1e-9}})),
        verdicts=[Verdict("shuffled", "Shuffled differences shift nothing", "pass", "+0.3 ± 1.0 cm-1")],
        scores=score_groups(rows),
        warnings=["imaginary mode: TA at X"],
        files=[PageFile(tmp_path / "comparison.csv")],
        commands=["python train.py", "python evaluate.py run=RUN"],
    )
    write_report(content, tmp_path / "report.html")
    return tmp_path / "report.html"


def test_nothing_is_loaded_from_anywhere(page: Path) -> None:
    text = page.read_text()
    found = Outline(text)
    assert found.addresses and all(a.startswith("data:") for a in found.addresses)
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "") and "https://" not in text
    assert "url(" not in text and "@import" not in text


def test_the_story_is_told_in_order(page: Path) -> None:
    text = " ".join(Outline(page.read_text()).words)
    chapters = ("four members", "imaginary mode", "What was trained", "Controls", "Against experiment", "Scores")
    chapters += ("Dispersion and densities", "Protocol and versions", "How to reproduce")
    places = [text.index(chapter) for chapter in chapters]
    assert places == sorted(places)
    assert "Solin & Ramdas <1970>" in text and "1346.2 ± 2.1" in text and "pass" in text


def test_numbers_of_the_figure_are_in_the_page_and_cannot_end_its_script(page: Path) -> None:
    block = re.search(r'<script type="application/json" id="phonons">(.*?)</script>', page.read_text(), re.DOTALL)
    assert block is not None
    data = json.loads(block.group(1))
    assert [s["name"] for s in data["series"]] == ["CCSD(T) delta", "DFT"]
    first = data["series"][0]
    assert len(first["mean"]) == len(first["x"]) == len(first["sigma"]) == 32
    assert data["series"][1]["sigma"] is None  # one member has none
    assert data["measured"][0]["places"] == [0.0, 1.5]


def test_one_sigma_is_written_as_people_read_it() -> None:
    assert (
        with_sigma(1367.52, 3.14) == "1367.5 ± 3.1"
        and with_sigma(800.0, None) == with_sigma(800.0, float("nan")) == "800.0"
    )


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1280, 500])
def test_it_lives_in_a_browser(page: Path, tmp_path: Path, width: int) -> None:
    probe = """<script>
      const seen = [];
      window.addEventListener("error", e => seen.push(e.message));
      window.addEventListener("load", () => {
        const chart = document.querySelector("svg.chart"), box = chart.getBoundingClientRect();
        chart.dispatchEvent(new PointerEvent("pointermove", {clientX: box.left + 60, clientY: box.top + 60}));
        document.querySelector("#legend input").click();
        const left = document.querySelectorAll("svg.chart polyline").length;
        const wide = document.documentElement.scrollWidth - window.innerWidth;
        document.title = JSON.stringify({left, wide, readout: document.getElementById("readout").textContent, seen});
      });
    </script>"""
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text().replace("<style>", probe + "<style>", 1))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom"]
    command = [
        str(BROWSER),
        *flags,
        f"--window-size={width},900",
        f"--user-data-dir={tmp_path / 'browser'}",
        probed.as_uri(),
    ]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    found = re.search(r"<title>(\{.*?\})</title>", dom, re.DOTALL)
    assert found is not None, dom[:500]
    state = json.loads(found.group(1).replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))
    assert state["seen"] == []
    assert state["left"] == 2 * 3 + 1  # the first series was switched off: two pieces of three modes and a DOS remain
    assert state["wide"] <= 0  # nothing sticks out at the side
    assert "cm⁻¹" in state["readout"] and "q =" in state["readout"] and "±" in state["readout"]


def test_imaginary_frequencies_stay_in_the_figure(tmp_path: Path) -> None:
    model = made_up_spectra()
    soft = replace(model, bands=model.bands - 300)
    data = Page("t", "s", [], [], soft.name, None, colours([soft], None), [])
    write_report(data, tmp_path / "r.html")
    block = re.search(r'id="phonons">(.*?)</script>', (tmp_path / "r.html").read_text(), re.DOTALL)
    assert block is not None and min(min(row) for row in json.loads(block.group(1))["series"][0]["mean"]) < -250


def test_model_form_is_a_column_where_controls_have_tried_other_forms(tmp_path: Path) -> None:
    model = made_up_spectra("model")
    content = Page("t", "s", [], compare("diamond", model, None, [RAMAN]), model.name, None, colours([model], None), [])
    write_report(content, tmp_path / "plain.html")
    write_report(replace(content, form={"GAMMA": {"LTO": 4.25}}), tmp_path / "form.html")
    assert "model form" not in (tmp_path / "plain.html").read_text()
    text = (tmp_path / "form.html").read_text()
    assert "<th>model form</th>" in text and "<td>4.2</td>" in text


def test_form_belongs_to_natural_masses_and_other_isotopes_have_rows_where_they_were_measured(tmp_path: Path) -> None:
    model = made_up_spectra("model")
    heavy = replace(model, isotope="13C")
    known = Measured("GAMMA", "LTO", 1281.0, 1.0, "Raman", isotope="13C")
    rows = compare("diamond", model, None, [RAMAN]) + compare("diamond", heavy, None, [known])
    content = Page("t", "s", [], rows, model.name, None, colours([model], None), [], form={"GAMMA": {"LTO": 4.25}})
    write_report(content, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert text.count("<td>4.2</td>") == 1 and "Γ 13C" in text and "X 13C" not in text


def test_marks_notes_and_the_answer_are_on_the_page(tmp_path: Path) -> None:
    model, low = made_up_spectra("model"), made_up_spectra("DFT", 4, 0.95, seed=1)
    rows = compare("diamond", model, low, [RAMAN])
    content = Page("t", "s", [], rows, model.name, low.name, colours([model], low), [], scores=score_groups(rows))
    content = replace(content, lacking=["X"], cell_notes=["† X: not held"], answer="Γ moves by +58.5.")
    write_report(content, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "X †" in text and "Γ †" not in text and "† X: not held" in text
    assert text.index("Γ moves by +58.5.") < text.index("What was trained on what")
    below = low.points["GAMMA"].estimate()
    assert (
        f"<td>{with_sigma(float(below.mean[0]), float(below.sigma[0]))}</td></tr>" in text
    )  # low level with its sigma
    assert re.search(r">DFT</td>(<td>[^<]+</td>){5}<td></td>", text)  # its chi-square does not know that sigma
