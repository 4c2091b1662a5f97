"""Splits are seeded, nested in size and spread evenly over amplitude."""

from __future__ import annotations

import numpy as np
import pytest

from mlffx.data.splits import resample, split, stratified_order
from mlffx.errors import UserError

AMPLITUDES = np.linspace(0, 0.13, 200)
ALL = np.arange(200)


def test_the_fifty_are_among_the_hundred_and_test_does_not_move() -> None:
    small, large = (split(AMPLITUDES, ALL, n, 20, 20, seed=4) for n in (50, 100))
    assert len(small.train) == 50 and len(large.train) == 100
    assert set(small.train) < set(large.train)
    assert np.array_equal(small.test, large.test) and np.array_equal(small.validation, large.validation)


def test_disjoint_and_complete() -> None:
    parts = split(AMPLITUDES, ALL, None, 0.1, 0.15, seed=0)
    assert [len(parts.train), len(parts.validation), len(parts.test)] == [150, 20, 30]
    assert np.array_equal(np.sort(np.concatenate([parts.train, parts.validation, parts.test])), ALL)


@pytest.mark.parametrize("seed", range(5))
def test_every_set_covers_all_amplitudes(seed: int) -> None:
    parts = split(AMPLITUDES, ALL, 40, 20, 20, seed=seed)
    for chosen in (parts.train, parts.validation, parts.test):
        quarters = np.bincount(chosen // 50, minlength=4)
        assert np.abs(quarters - len(chosen) / 4).max() <= 2


@pytest.mark.parametrize("n", [1, 2, 3, 7, 37, 200])
def test_order_is_a_permutation_of_which_every_stretch_is_even(n: int) -> None:
    values = np.random.default_rng(n).normal(size=n)
    order = stratified_order(values, seed=1)
    assert np.array_equal(np.sort(order), np.arange(n))
    rank = np.argsort(np.argsort(values))[order]
    for begin in range(0, n - 8, 3):
        upper = (rank[begin : begin + 8] >= n / 2).sum()
        assert 3 <= upper <= 5


def test_seed_decides() -> None:
    one, same, other = (split(AMPLITUDES, ALL, 50, 20, 20, seed=s) for s in (1, 1, 2))
    assert np.array_equal(one.train, same.train)
    assert not np.array_equal(one.test, other.test)


def test_only_frames_with_labels_are_divided() -> None:
    labelled = ALL[::3]
    parts = split(AMPLITUDES, labelled, None, 5, 5, seed=0)
    assert set(np.concatenate([parts.train, parts.validation, parts.test])) == set(labelled)


def test_null_means_no_validation_and_no_test() -> None:
    parts = split(AMPLITUDES, ALL, None, None, None, seed=0)
    assert np.array_equal(parts.train, ALL) and len(parts.validation) == len(parts.test) == 0


def test_resampling() -> None:
    train = np.arange(100, 160)
    bootstrap = resample(train, seed=0)
    assert len(bootstrap) == 60 and set(bootstrap) < set(train)
    assert 0.5 < len(set(bootstrap)) / 60 < 0.75  # 1 - 1/e = 0.63 of them
    half = resample(train, seed=0, fraction=0.5)
    assert len(half) == len(set(half)) == 30
    assert not np.array_equal(resample(train, seed=1), bootstrap)
    with pytest.raises(UserError, match=r"ensemble.fraction: a fraction of 1.5 is not in \(0, 1\]"):
        resample(train, seed=0, fraction=1.5)
