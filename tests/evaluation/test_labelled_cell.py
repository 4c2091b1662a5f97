"""What a reader is told at once: points the cell of the labels does not hold, and where the shift comes from."""

from __future__ import annotations

import numpy as np
from twin_runs import TWIN

from mlffx.evaluation.answer import answer
from mlffx.evaluation.controls import Verdict, shuffled_differences
from mlffx.evaluation.labelled_cell import labelled_cells, lacked_by_any, marked, note, notes_of, supercell_note
from mlffx.evaluation.uncertainty import Estimate
from mlffx.training.settings import TrainSettings
from mlffx.training.task import prepare

PAPER = {"atoms": [32], "holds": ["GAMMA", "X", "W"], "lacks": ["L", "K"]}
LARGE = {"atoms": [64], "holds": ["GAMMA", "X", "L", "W"], "lacks": ["K"]}
SHIFTS = {"GAMMA": {"TO": {"mean": 10.0, "sigma": 14.0}, "LO": {"mean": 5.3, "sigma": 6.9}}}
SHIFTS |= {"X": {"TO": {"mean": 39.5, "sigma": 12.3}}}


def cells(repetitions: list[int]) -> dict:
    settings = TrainSettings.read(
        {
            "data": TWIN | {"repetitions": repetitions, "n_frames": 12},
            "level": {"name": "low"},
            "model": {"name": "painn"},
            "potential": {"kind": "direct"},
        }
    )
    task = prepare(settings)
    assert task.dataset.crystal is not None
    return labelled_cells(task, task.dataset.crystal)


def test_the_cell_is_that_of_the_labels() -> None:
    assert cells([1, 1, 1]) == {"atoms": [8], "holds": ["GAMMA", "X"], "lacks": ["L", "W", "K"]}
    assert cells([2, 2, 1]) == PAPER


def test_only_points_that_are_shown_are_told_and_marked() -> None:
    assert note(LARGE, ("GAMMA", "X", "L")) == "" and note({}, ("L",)) == ""
    said = note(PAPER, ("GAMMA", "X", "L"))
    assert said.startswith("† L: not held by the cell of the labels (32 atoms), which holds Γ, X, W")
    assert "decayed" in said  # interpolation is not called wrong
    lines = marked([["Γ LTO", "1360.3"], ["L TA", "545.7"], ["anharmonic shift removed", ""]], ["L", "K"])
    assert [line[0] for line in lines] == ["Γ LTO", "L TA †", "anharmonic shift removed"]
    assert supercell_note([], 128) == "" and "K: not held by the supercell" in supercell_note(["K"], 128)


def test_runs_of_different_labels_are_told_apart() -> None:
    shown = ("GAMMA", "X", "L")
    assert len(notes_of({"a": PAPER, "b": PAPER}, shown)) == 1
    assert notes_of({"a": PAPER, "b": LARGE}, shown) == [f"a: {note(PAPER, shown)}"]
    assert lacked_by_any([LARGE, PAPER], shown) == ["L"] and lacked_by_any([LARGE, {}], shown) == []


def test_the_first_question_is_answered_by_numbers() -> None:
    shuffled = shuffled_differences(Estimate(np.array(-0.001), np.array(0.2), 4), 39.5, real_sigma=12.3, mode="X TO")
    linear = Verdict("linear", "", "pass", "-1.7 ± 4.4 cm⁻¹ at the mode where they differ most")
    forces = Verdict("forces", "", "pass", "", {"relative_rms_error": 0.031})
    said = answer("DFT", SHIFTS, [shuffled, linear, forces])
    assert "X TO moves by +39.5 ± 12.3 cm⁻¹ against DFT" in said and "by +0.0 ± 0.2 with the same labels" in said
    assert "without a network differs by -1.7 ± 4.4" in said and "to 3 % of their rms" in said
    settle = Verdict("settle", "Finite differences settle it", "pass", "forces missed by 6.8", {})
    assert answer("DFT", SHIFTS, [settle]) == "Finite differences settle it: pass. forces missed by 6.8."
    assert answer("DFT", SHIFTS, [settle, shuffled]).startswith("Finite differences settle it: pass. ")
    assert answer(None, None, [shuffled]) == "" and "controls=[shuffled" in answer("DFT", SHIFTS, [])


def test_of_a_verdict_that_names_no_mode_the_shift_tells_it() -> None:
    numbers = {"shuffled_shift_cm1": 0.0, "sigma_cm1": 0.0, "real_shift_cm1": 5.29, "shuffles": 4}
    said = answer("DFT", SHIFTS, [Verdict("shuffled", "", "pass", "", numbers)])
    assert said.startswith("Γ LO moves by +5.3 ± 6.9") and "does not tell them apart" in said
