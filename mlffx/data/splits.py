"""Splits that compare like with like: seeded, spread evenly over displacement amplitude, nested in size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlffx.errors import UserError


@dataclass(frozen=True)
class Split:
    """Indices of frames, sorted; the three sets are disjoint."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split(
    amplitudes: np.ndarray,
    indices: np.ndarray,
    train_size: int | float | None,
    validation_size: int | float | None,
    test_size: int | float | None,
    seed: int,
) -> Split:
    """Divide frames into training, validation and test.

    The frames are put into one seeded order of which every stretch covers all amplitudes (`stratified_order`). The test
    set is its beginning, then comes the validation set, and the training set is the next `train_size`: at the same seed
    the 50 are among the 100, and neither test nor validation depends on `train_size`.

    Args:
        amplitudes: of all frames of the data set, [n_frames].
        indices: the frames to divide (those with the labels needed).
        train_size, validation_size, test_size: a count, or a fraction of `indices` if it is a float below 1; None
            means all that are left for training, and no set at all for the other two.
        seed: of the order.

    Raises:
        UserError: for an empty set or more frames than there are.
    """
    indices = np.asarray(indices)
    n_test = _count("test_size", test_size, len(indices), none=0)
    n_validation = _count("validation_size", validation_size, len(indices), none=0)
    n_left = len(indices) - n_test - n_validation
    if n_left <= 0:
        raise UserError(
            f"test ({n_test}) and validation ({n_validation}) leave none of {len(indices)} labelled frames to train on",
            "make them smaller",
            "data.test_size",
        )
    n_train = _count("train_size", train_size, len(indices), none=n_left)
    if n_train > n_left:
        raise UserError(
            f"{n_train} training frames asked for; {len(indices)} labelled - {n_test} test - {n_validation} validation"
            f" leave {n_left}",
            f"take at most {n_left}",
            "data.train_size",
        )
    order = indices[stratified_order(np.asarray(amplitudes)[indices], seed)]
    test, validation, rest = np.split(order, [n_test, n_test + n_validation])
    return Split(np.sort(rest[:n_train]), np.sort(validation), np.sort(test))


def stratified_order(values: np.ndarray, seed: int) -> np.ndarray:
    """A random order of which every stretch is spread evenly over the values.

    The sorted values are halved; the orders of the two halves, found in the same way, are interleaved, and a coin
    decides which begins. Any k consecutive frames then hold k/2 of each half, k/4 of each quarter and so on, to within
    one or two.

    Returns:
        permutation of range(len(values)).
    """
    rng = np.random.default_rng(seed)

    def order(ranks: np.ndarray) -> np.ndarray:
        if len(ranks) < 2:
            return ranks
        coin = int(rng.random() < 0.5)
        middle = (len(ranks) + coin) // 2
        halves = [order(ranks[:middle]), order(ranks[middle:])]
        if len(halves[0]) < len(halves[1]) or (len(ranks) % 2 == 0 and coin):
            halves.reverse()  # the longer half begins, so that interleaving leaves no tail
        out = np.empty(len(ranks), dtype=ranks.dtype)
        out[0::2], out[1::2] = halves
        return out

    return order(np.argsort(values, kind="stable"))


def resample(train: np.ndarray, seed: int, fraction: float | None = None) -> np.ndarray:
    """Training set of one ensemble member, sorted.

    Args:
        train: indices of frames.
        seed: of the member.
        fraction: None draws len(train) frames with replacement (bootstrap); else that fraction without (subsampling).

    Raises:
        UserError: for a fraction outside (0, 1].
    """
    rng = np.random.default_rng(seed)
    if fraction is None:
        return np.sort(rng.choice(train, size=len(train), replace=True))
    if not 0 < fraction <= 1:
        raise UserError(f"a fraction of {fraction} is not in (0, 1]", where="ensemble.fraction")
    return np.sort(rng.choice(train, size=max(1, round(fraction * len(train))), replace=False))


def _count(key: str, size: int | float | None, n: int, none: int) -> int:
    where = f"data.{key}"
    if size is None:
        return none
    if isinstance(size, bool) or not isinstance(size, int | float | np.integer | np.floating):
        raise UserError(f"'{size}' is not a number", "give a count or a fraction", where)
    if not np.isfinite(size) or size < 0 or (size > 1 and size != int(size)):
        raise UserError(f"{size} is neither a count nor a fraction", "give a count or a fraction below 1", where)
    is_fraction = isinstance(size, float | np.floating) and size < 1
    count = round(size * n) if is_fraction else int(size)
    if count == 0:
        remedy = "give at least 1" if key == "train_size" else "give at least 1, or null for none"
        raise UserError(f"{size} of {n} frames is an empty set", remedy, where)
    if count > n:
        raise UserError(f"{count} frames asked for, {n} have the labels needed", f"take at most {n}", where)
    return count
