"""Ways to break configurations and data files, at random but repeatably."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from mlffx.compose import CONF, composed

VALUES = [
    "many",
    "-1",
    "0",
    "1.5",
    "null",
    "[]",
    "{}",
    "true",
    "1e400",
    "nan",
    "-inf",
    "99999999",
    "é",
    "''",
    "[1,2,3]",
]
VALUES += ["{a: 1}", "1e-30", "'a b'", "../nowhere", "${seed}", "${nothing}", "3,4", "0x10", "-0.5", "[a,[b]]", "auto"]
JUNK = [
    "=3",
    "seed",
    "seed==1",
    "+=",
    "[=]",
    "{",
    "model.=2",
    ".model=3",
    "~",
    "++",
    "data={",
    "a=b=c",
    "'",
    "seed=1 2",
    "@",
]


def broken_config(base: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Overrides with a mistake, seldom two: a second one would mostly hide behind the first."""
    keys = _leaves(OmegaConf.to_container(composed("train", list(base)), resolve=False))
    keys = [k for k in keys if k.split(".")[0] not in ("run_dir", "cache_dir", "resume", "print", "hydra", "sweep_dir")]
    found = list(base)
    for _ in range(1 + (rng.random() < 0.2)):
        key, value = str(rng.choice(keys)), str(rng.choice(VALUES))
        match rng.integers(12):
            case 0:
                found.append(f"{_misspelt(key, rng)}={value}")
            case 1:
                group = str(rng.choice([p.name for p in CONF.iterdir() if p.is_dir()]))
                found.append(f"{group}={_misspelt(str(rng.choice([*_choices(group)])), rng)}")
            case 2:
                how = rng.integers(3)
                found.append([f"~{key}", f"+{key}={value}", str(rng.choice(JUNK))][how])
            case _:
                found.append(f"{key}={value}")
    return found


def broken_file(text: str, rng: np.random.Generator) -> bytes:
    """A labelled file with something wrong in it; now and then it can still be read."""
    lines, data = text.splitlines(), text.encode()
    at = int(rng.integers(len(lines)))
    match rng.integers(12):
        case 0:
            return data[: rng.integers(len(data))]
        case 1:
            flipped = bytearray(data)
            for i in rng.integers(len(data), size=rng.integers(1, 20)):
                flipped[i] = rng.integers(256)
            return bytes(flipped)
        case 2:
            del lines[at : at + int(rng.integers(1, 5))]
        case 3:
            lines[at:at] = [lines[int(rng.integers(len(lines)))]]
        case 4:
            words = lines[at].split(" ")
            words[int(rng.integers(len(words)))] = str(rng.choice(["nan", "inf", "*****", "1e400", "-", "x", "", "0"]))
            lines[at] = " ".join(words)
        case 5:
            lines[at] = lines[at].replace("energy", str(rng.choice(["enrgy", "Energy", "energy2", ""])))
        case 6:
            lines = [
                line.replace("forces:R:3", str(rng.choice(["forces:R:2", "forces:S:3", "force:R:3"]))) for line in lines
            ]
        case 7:
            lines = [line.replace("Lattice=", str(rng.choice(["Lattic=", "Lattice='0 0' x="]))) for line in lines]
        case 8:
            return bytes(rng.integers(256, size=int(rng.integers(1, 3000)), dtype=np.uint8))
        case 9:
            return b""
        case 10:
            lines[0] = str(rng.choice(["0", "-3", "1000000", "eight", "8.0", ""]))
        case 11:
            lines = [line.replace("C  ", str(rng.choice(["Xx ", "6  ", "c  ", "Si "])), 1) for line in lines]
    return "\n".join(lines).encode()


def _leaves(node: Any, prefix: str = "") -> list[str]:
    if not isinstance(node, Mapping) or not node:
        return [prefix]
    return [leaf for key, value in node.items() for leaf in _leaves(value, f"{prefix}.{key}" if prefix else str(key))]


def _choices(group: str) -> list[str]:
    return sorted(p.stem for p in (CONF / group).glob("*.yaml"))


def _misspelt(name: str, rng: np.random.Generator) -> str:
    i = int(rng.integers(len(name)))
    letter = str(rng.choice(list("abcdefgxyz_")))
    return [name[:i] + name[i + 1 :], name[:i] + letter + name[i:], name[:i] + letter + name[i + 1 :]][rng.integers(3)]
