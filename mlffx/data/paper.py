"""The paper's released labels: what the public repository holds, and where a copy of it may lie on this machine."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from mlffx.errors import UserError

REPOSITORY = "waup-1/MLphononsdata"
COMMIT = "d13cfd26afc17d3c720596ec64d3e2a876e3117d"
LICENCE_NOTE = (
    f"labels: github.com/{REPOSITORY} at commit {COMMIT[:7]} (the paper cites a2855d3); no licence is stated:"
    " cite the repository and the commit, do not redistribute the files"
)

# git blob ids: sha1 of "blob <size>\0" + content
FILES = {
    "c/200221forcc.xyz": "434dcf06399f9ef3e9d5c9d36efe798cdb338c25",
    "c/200221forcc_hfe.xyz": "7be763f6e94ac97a1fe31cfd6935ae3106422117",
    "c/200221forcc_mp2.xyz": "3d0f60b153388a2fbf4626f9b0eaefd6e993daa3",
    "c/200221forcc_ccsd.xyz": "a30edd70ad38df77fc990514859cc2c063deae2d",
    "c/200221forcc_ccsdt.xyz": "9c17e292e8e81e7021b7490f0562da43b2c177e9",
    "lih/200222forcc.xyz": "218180fe167d6a4fe9b2e625bfae8be7de897d89",
    "lih/200222forcc_hfe.xyz": "16463992c17a8876f0c69ae28c64fd3b853a8f38",
    "lih/200222forcc_mp2.xyz": "c53c96324243f5e68efe6b3ef7b32c836139bfb3",
    "lih/200222forcc_ccsd.xyz": "4af62ce9c3eab01f7ef2a44649158b57c95dbdaa",
    "lih/200222forcc_ccsdt.xyz": "4078158e249612efeb01fcfc6550803f1a9b1adb",
    "lih/lih_md_sweep222.xyz": "5acc2d4e8fa5a3b917862c9858e603d8e46397ce",
}


def git_blob_id(path: Path) -> str:
    """The name git gives to the content of a file."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def cache_directory() -> Path:
    """Where mlffx keeps what it fetched or generated: $MLFFX_CACHE, else $XDG_CACHE_HOME/mlffx, else ~/.cache/mlffx."""
    if os.environ.get("MLFFX_CACHE"):
        return Path(os.environ["MLFFX_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlffx"


def fetched_directory() -> Path:
    """Where `python -m mlffx.data fetch` puts the paper's data."""
    return cache_directory() / f"MLphononsdata-{COMMIT[:7]}"


def find_root(root: str | Path | None, needed: Path) -> Path:
    """Directory laid out like the public repository.

    Args:
        root: `data.root`; None or empty looks at the fetched copy, then at ../shared/data/MLphononsdata beside the
            checkout.
        needed: relative path of a file that must be there.

    Raises:
        UserError: when the file is in none of them.
    """
    remedy = "run `python -m mlffx.data fetch`, or set data.root=DIR (or MLFFX_DATA_ROOT) to a copy of the paper's data"
    if root:
        if not Path(root).is_dir():
            raise UserError(f"no such directory '{root}'", remedy, "data.root")
        if not (Path(root) / needed).is_file():
            raise UserError(f"'{root}' holds no {needed}", remedy, "data.root")
        return Path(root)
    checkout = Path(__file__).resolve().parents[2]
    places = [fetched_directory(), *(p.parent / "shared" / "data" / "MLphononsdata" for p in (Path.cwd(), checkout))]
    for place in places:
        if (place / needed).is_file():
            return place
    raise UserError(f"the paper's data ({needed}) is not on this machine", remedy, "data.root")
