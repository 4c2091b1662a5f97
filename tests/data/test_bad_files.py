"""What is wrong with a file is told in one line with the place and the remedy, and never guessed around."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlffx.data.__main__ import main
from mlffx.data.dataset import load_dataset
from mlffx.data.splits import split
from mlffx.errors import UserError

FRAME = 10  # lines of a frame: count, comment, 8 atoms


def truncate(files: Any) -> dict:
    files.write("ccsdt.xyz", files.lines("ccsdt.xyz")[:-3])
    return files.config()


def cut_line(files: Any) -> dict:
    lines = files.lines("dft.xyz")
    files.write("dft.xyz", [*lines[:4], lines[4][:30], *lines[5:]])
    return files.config()


def lost_count(files: Any) -> dict:
    lines = files.lines("dft.xyz")
    files.write("dft.xyz", lines[:20] + lines[21:])
    return files.config()


def empty_file(files: Any) -> dict:
    files.write("dft.xyz", [])
    return files.config()


def binary_file(files: Any) -> dict:
    (files.root / "dft.xyz").write_bytes(bytes(range(256)))
    return files.config()


def no_file(files: Any) -> dict:
    (files.root / "dft.xyz").unlink()
    return files.config()


def change(name: str, line: int, old: str, new: str) -> Callable[[Any], dict]:
    def make(files: Any) -> dict:
        files.edit(name, line, old, new)
        return files.config()

    return make


def replace_energy(name: str, frame: int, new: str) -> Callable[[Any], dict]:
    def make(files: Any) -> dict:
        lines = files.lines(name)
        lines[frame * FRAME + 1] = re.sub(r"energy=\S+", f"energy={new}", lines[frame * FRAME + 1])
        files.write(name, lines)
        return files.config()

    return make


def configured(**changes: Any) -> Callable[[Any], dict]:
    return lambda files: files.config(**changes)


def levels(**high: Any) -> Callable[[Any], dict]:
    def make(files: Any) -> dict:
        config = files.config()
        config["levels"]["ccsdt"] |= high
        return config

    return make


def another_set(files: Any) -> dict:
    frames = [atoms.copy() for atoms in files.frames]
    for number, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=number)
    files.write_level("ccsdt.xyz", frames, files.high, files.forces)
    return files.config()


def molten(files: Any) -> dict:
    frames = [atoms.copy() for atoms in files.frames]
    frames[4].positions += np.random.default_rng(0).uniform(-2, 2, (8, 3))
    files.write_level("dft.xyz", frames, files.low, files.forces)
    return files.config()


CASES: dict[str, tuple[Callable[[Any], dict], str]] = {
    "truncated": (
        truncate,
        "ROOT/ccsdt.xyz:111: frame 11 announces 8 atoms and the file ends after 5; is the file truncated?",
    ),
    "cut line": (
        cut_line,
        "ROOT/dft.xyz:5: atom 2 of frame 0 has 4 of 8 columns; is the file truncated? fetch or copy it again",
    ),
    "lost line": (lost_count, "ROOT/dft.xyz:21: expected a number of atoms, found 'Lattice="),
    "empty file": (empty_file, "ROOT/dft.xyz: the file holds no structures; fetch or copy it again"),
    "binary": (binary_file, "ROOT/dft.xyz:1: expected a number of atoms, found"),
    "missing file": (no_file, "ROOT/dft.xyz: no such file; level 'dft' needs it"),
    "missing energy": (
        change("ccsdt.xyz", 42, "energy=", "enrgy="),
        "ROOT/ccsdt.xyz:42: frame 4 of level 'ccsdt': it has no 'energy=' (it has enrgy); mend the file or set",
    ),
    "empty energy": (
        replace_energy("ccsdt.xyz", 3, ""),
        "ROOT/ccsdt.xyz:32: frame 3 of level 'ccsdt': its 'energy=' is empty; mend the file or set",
    ),
    "NaN energy": (
        replace_energy("dft.xyz", 0, "NaN"),
        "ROOT/dft.xyz:2: frame 0 of level 'dft': its energy is nan; mend",
    ),
    "infinite energy": (
        replace_energy("dft.xyz", 1, "-inf"),
        "ROOT/dft.xyz:12: frame 1 of level 'dft': its energy is -inf;",
    ),
    "text energy": (
        replace_energy("ccsdt.xyz", 0, "failed"),
        "ROOT/ccsdt.xyz:2: frame 0 of level 'ccsdt': its 'energy=failed' is not a number; mend",
    ),
    "absurd energy": (
        replace_energy("ccsdt.xyz", 6, "-15.5"),
        "ROOT/ccsdt.xyz:62: frame 6 of level 'ccsdt': its energy -15.5 eV is +17.4 eV/atom off the median of the file;",
    ),
    "NaN position": (
        change("dft.xyz", 13, "C ", "C NaN "),
        "ROOT/dft.xyz:13: a coordinate of atom 0 is not finite; is the",
    ),
    "text position": (change("dft.xyz", 13, "C ", "C x"), "ROOT/dft.xyz:13: 'x"),
    "NaN force": (
        lambda files: change("dft.xyz", 3, files.lines("dft.xyz")[2].split()[4], "nan")(files),
        "ROOT/dft.xyz:2: frame 0 of level 'dft': a force on atom 0 is not finite; mend",
    ),
    "wrong species": (
        change("ccsdt.xyz", 13, "C ", "Si "),
        "ROOT/ccsdt.xyz:12: frame 1 of level 'ccsdt' is SiC7, 'dft' has C8; check the column 'species'",
    ),
    "wrong species, low": (
        change("dft.xyz", 13, "C ", "Si "),
        "ROOT/dft.xyz:12: composition SiC7 is not that of the crystal (C8); check species and data.crystal",
    ),
    "unknown element": (change("dft.xyz", 13, "C ", "Cx "), "ROOT/dft.xyz:13: unknown element 'Cx'; check the column"),
    "wrong cell": (
        change("ccsdt.xyz", 22, '"3.56', '"3.66'),
        "ROOT/ccsdt.xyz:22: the cell of frame 2 of level 'ccsdt' (3.66000 x 3.56000 x 3.56000 A) is not that of 'dft'",
    ),
    "wrong cell, low": (
        change("dft.xyz", 22, '"3.56', '"4.26'),
        "ROOT/dft.xyz:22: the cell is no supercell of the crystal; check the lattice constant or declare data.crystal",
    ),
    "garbled cell": (change("dft.xyz", 2, '"3.56000000', '"3,56'), "ROOT/dft.xyz:2: Lattice '3,56"),
    "no cell": (
        change("dft.xyz", 2, "Lattice", "Box"),
        "ROOT/dft.xyz:2: a frame needs Lattice, species and pos; write",
    ),
    "not periodic": (
        change("dft.xyz", 2, 'pbc="T T T"', 'pbc="T T F"'),
        "ROOT/dft.xyz:2: the structure is not periodic;",
    ),
    "molten": (
        molten,
        "ROOT/dft.xyz:42: frame 4 of level 'dft': atoms cannot be matched to the sites of the crystal; mend",
    ),
    "another set": (
        another_set,
        "ROOT/ccsdt.xyz: none of its 12 frames has the geometry of a frame of 'dft'; are both files",
    ),
    "repeated forces": (
        levels(labels=["energy", "forces"]),
        "ROOT/ccsdt.xyz: its forces repeat those of 'dft' in 12 of 12 frames: they are not its own; remove forces from"
        " data.levels.ccsdt.labels",
    ),
    "unknown label": (
        levels(labels=["energies"]),
        "data.levels.ccsdt.labels: unknown label 'energies'; did you mean 'energy'?",
    ),
    "unknown key": (levels(fil="x"), "data.levels.ccsdt.fil: unknown key 'fil'; did you mean 'file'?"),
    "unknown unit": (levels(energy_unit="ev"), "data.levels.ccsdt.energy_unit: unknown unit 'ev'; did you mean 'eV'?"),
    "no levels": (
        configured(levels=None),
        "data.levels: no level of theory is declared; declare data.levels.NAME.file",
    ),
    "no file key": (levels(file=None), "data.levels.ccsdt: a level needs a file; set data.levels.ccsdt.file"),
    "no root": (
        configured(root="/no/where"),
        "data.root: no such directory '/no/where'; file names are relative to it",
    ),
    "unknown kind": (configured(kind="file"), "data.kind: unknown kind of data 'file'; did you mean 'files'?"),
    "unknown policy": (configured(bad_frames="skip"), "data.bad_frames: unknown choice 'skip'; valid: drop, refuse"),
    "unknown low level": (configured(low="dtf"), "data.low: no level 'dtf' is declared; did you mean 'dft'?"),
    "unknown prototype": (
        configured(crystal={"prototype": "diamant", "species": ["C"], "a": 3.56}),
        "data.crystal: 'diamant' with ['C']:",
    ),
    "bad crystal": (configured(crystal="fcc"), "data.crystal: 'fcc' is not understood; give null, auto, or prototype"),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_in_one_line(case: str, files: Any) -> None:
    make, expected = CASES[case]
    with pytest.raises(UserError) as caught:
        load_dataset(make(files))
    message = str(caught.value).replace(str(files.root), "ROOT")
    assert message.startswith(expected), message
    assert "\n" not in message


def test_labels_a_level_does_not_have(files: Any) -> None:
    dataset = load_dataset(files.config())
    with pytest.raises(
        UserError, match=r"level: level 'ccsdt' of 'small' has energy only, no forces; levels with forces: dft"
    ):
        dataset.require("ccsdt", "forces")
    with pytest.raises(
        UserError, match=r"level: 'small' has no level 'ccsdtt'; did you mean 'ccsdt'\? valid: ccsdt, dft"
    ):
        dataset.difference("ccsdtt", "dft")
    assert "ccsdt" not in dataset.forces


def test_level_whose_file_is_not_there_can_be_left_alone(files: Any) -> None:
    (files.root / "ccsdt.xyz").unlink()
    dataset = load_dataset(files.config())
    assert list(dataset.energies) == ["dft"]
    with pytest.raises(UserError, match=r"the file of level 'ccsdt' \(ccsdt.xyz\) is not there; fetch it or take"):
        dataset.require("ccsdt")


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((0, 2, 2), "data.train_size: 0 of 12 frames is an empty set; give at least 1"),
        ((8, 0, 2), "data.validation_size: 0 of 12 frames is an empty set; give at least 1, or null for none"),
        ((8, 2, 0.01), "data.test_size: 0.01 of 12 frames is an empty set"),
        (
            (10, 2, 2),
            "data.train_size: 10 training frames asked for; 12 labelled - 2 test - 2 validation leave 8; take at",
        ),
        ((None, 6, 6), "data.test_size: test (6) and validation (6) leave none of 12 labelled frames to train on"),
        ((20, 1, 1), "data.train_size: 20 frames asked for, 12 have the labels needed; take at most 12"),
        ((-1, 1, 1), "data.train_size: -1 is neither a count nor a fraction"),
        ((2.5, 1, 1), "data.train_size: 2.5 is neither a count nor a fraction"),
        (("half", 1, 1), "data.train_size: 'half' is not a number; give a count or a fraction"),
    ],
)
def test_splits_that_cannot_be(sizes: tuple, expected: str, files: Any) -> None:
    dataset = load_dataset(files.config())
    with pytest.raises(UserError) as caught:
        split(dataset.amplitudes(), dataset.indices(["dft", "ccsdt"]), *sizes, seed=0)
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["inspect", "data=diamand"], "error: data: no data set 'diamand'; did you mean 'diamond'?"),
        (["inspect", "data=diamond", "data.rot=x"], "error: data: no such key 'data.rot'; did you mean 'root'?"),
        (
            ["inspect", "data=diamond", "data.root=/no/where"],
            "error: data.root: no such directory '/no/where'; run `python -m",
        ),
        (["inspect", "model=painn"], "error: 'model' is not understood; write data=NAME and data.KEY=VALUE"),
        (["inspect", "data.root=x"], "error: data: say once which data set; data=NAME, valid: "),
        (["fetch", "--only", "silicon"], "error: --only: no file contains 'silicon'; files: c/200221forcc.xyz,"),
    ],
)
def test_command_line_tells_mistakes_in_one_line(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith(expected), told
    assert told.count("\n") == 1


def test_a_mistake_is_no_traceback_in_a_shell() -> None:
    command = [sys.executable, "-m", "mlffx.data", "inspect", "data=diamond", "data.rot=x"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: data: no such key 'data.rot'; did you mean 'root'?"), done.stderr
    assert done.stderr.count("\n") == 1
