"""Tutorials do what they say: their code blocks are run, in order, in a copy of the project, at small sizes.

A page takes part by being listed in PAGES. In it

* a ```bash block is a list of commands; `$ ` prompts and comments are ignored;
* a ```python block is a program;
* a block of any language whose first line is a comment with a path (`# conf/data/mine.yaml`) is that file;
* `<!-- not run: reason -->` before a block leaves it out; `<!-- needs: paper_data -->` leaves it out without that data.

Training and evaluation get the overrides of SMALL appended: a tutorial shows the sizes a user wants.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path.name for path in (ROOT / "docs").glob("tutorial_*.md"))
COPIED = ("mlffx", "conf", "train.py", "evaluate.py", "label.py", "data", "sweeps", "tests", "docs/examples")
SMALL = {
    "train.py": ["trainer.max_epochs=1", "trainer.progress=false", "trainer.workers=1"],
    "evaluate.py": [
        "phonons.supercell=2",
        "phonons.mesh=9",
        "phonons.cross_check=false",
        "samples=2",
        "progress=false",
    ],
}
FENCE = re.compile(r"((?:<!--[^\n]*-->\n+)*)```(\w+)[^\n]*\n(.*?)```", re.DOTALL)
PLACE = re.compile(r"^# ([\w./-]+\.\w+)\s*$")


@dataclass(frozen=True)
class Block:
    """A code block of a page, with the remarks (HTML comments) that stand before it."""

    remarks: str
    language: str
    text: str

    @property
    def place(self) -> str | None:
        """The file this block is, where its first line names one."""
        found = PLACE.match(self.text.split("\n", 1)[0])
        return found and found[1]


def blocks(page: Path) -> Iterator[Block]:
    """Code blocks of a page in order."""
    for remarks, language, text in FENCE.findall(page.read_text()):
        yield Block(remarks, language, text)


def commands(text: str) -> Iterator[str]:
    """Lines of a bash block, continued lines joined, with the small sizes appended to what trains and evaluates."""
    for line in text.replace("\\\n", " ").splitlines():
        line = re.sub(r"\s+#.*$", "", line.removeprefix("$ ")).strip()
        if not line or line.startswith("#"):
            continue
        program = line.split()[1] if len(line.split()) > 1 else ""
        given = [word.split("=")[0].strip("'\"") for word in line.split()]
        extra = [] if "--help" in line else [o for o in SMALL.get(program, []) if o.split("=")[0] not in given]
        yield " ".join([line, *extra])


def run(command: list[str], house: Path, shown: str) -> None:
    """Run in the copy, whose modules come first; what fails is shown with its output."""
    environment = os.environ | {"PYTHONPATH": str(house), "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(command, cwd=house, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{shown}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of what a checkout has."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "runs"))
        elif source.is_file():
            shutil.copy(source, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_tutorial(page: str, house: Path, request: pytest.FixtureRequest) -> None:
    done = 0
    for block in blocks(ROOT / "docs" / page):
        if "not run:" in block.remarks:
            continue
        if "needs: paper_data" in block.remarks:
            os.environ["MLFFX_DATA_ROOT"] = str(request.getfixturevalue("paper_data"))
        if block.place:
            target = house / block.place
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text)
        elif block.language == "bash":
            for command in commands(block.text):
                run(["bash", "-c", command], house, command)
        elif block.language == "python":
            run([sys.executable, "-c", block.text], house, block.text)
        else:
            continue
        done += 1
    assert done, f"{page} has no block that is run"


def test_every_page_that_is_linked_exists() -> None:
    """Links between pages, and to pictures."""
    missing = [
        f"{page.name}: {target}"
        for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not missing, missing
