"""The statistics against definitions written out, and against cases whose answer is known."""

import math

import numpy as np
import pytest

from spin_rl.platform.reports.statistics import (
    area_under_curve,
    improvement_interval,
    iqm,
    iqm_interval,
    performance_profile,
    probability_of_improvement,
    profile_band,
    target_return,
    time_to_target,
    value_at,
)


def test_the_interquartile_mean_leaves_a_quarter_out_at_each_end() -> None:
    assert iqm([1000.0, 2, 3, 4, 5, 6, 7, -1000]) == pytest.approx((3 + 4 + 5 + 6) / 4)


def test_resampling_stays_within_a_task() -> None:
    # Each task alone never varies: an interval wider than a point would mix tasks.
    assert iqm_interval([[1.0, 1.0, 1.0], [9.0, 9.0, 9.0]]) == (5.0, 5.0, 5.0)


def test_an_interval_is_the_seeds_and_covers_the_truth() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        interval = iqm_interval([generator.normal(10, 2, 20)], resamples=200)
        covered += interval.low <= 10 <= interval.high
    assert 85 <= covered <= 100
    scores = [generator.normal(0, 1, 5)]
    assert iqm_interval(scores, seed=3) == iqm_interval(scores, seed=3) != iqm_interval(scores, seed=4)


def test_probability_of_improvement_counts_pairs_within_tasks() -> None:
    # task one: of 4 pairs 2 are won and 1 is a tie; task two: all lost
    assert probability_of_improvement([[1, 3], [0]], [[1, 2], [5]]) == pytest.approx((2.5 / 4 + 0) / 2)
    low_to_high = improvement_interval([[1, 2, 3]], [[0, 0.5, 4]], resamples=300)
    assert low_to_high.low <= low_to_high.value <= low_to_high.high


def test_a_profile_is_the_share_of_runs_above_each_score() -> None:
    scores = [[0.0, 10.0], [20.0]]
    assert performance_profile(scores, [-1, 5, 15, 25]).tolist() == [1.0, 0.75, 0.5, 0.0]
    low, high = profile_band(scores, [5.0], resamples=100)
    assert (low[0], high[0]) == (0.5, 1.0)


def test_the_area_is_the_mean_height_over_uneven_steps() -> None:
    assert area_under_curve([0, 1, 3], [0, 2, 2]) == pytest.approx((1 + 4) / 3)
    assert area_under_curve([5], [7]) == 7


def test_the_time_to_a_target_is_interpolated_at_the_first_crossing() -> None:
    assert time_to_target([30, 40, 50, 60], [0, 90, 100, 40], 95) == pytest.approx(45)
    assert time_to_target([30, 40], [100, 100], 95) == 30  # the pretraining counts though the first policy is there
    assert math.isnan(time_to_target([0, 10], [0, 94], 95))


def test_the_target_lies_below_the_final_return_whatever_its_sign() -> None:
    assert target_return(200) == pytest.approx(190)
    assert target_return(-200) == pytest.approx(-210)


def test_a_curve_has_no_value_beyond_its_end() -> None:
    assert value_at([0, 100], [0, 50], 40) == 20
    assert math.isnan(value_at([0, 100], [0, 50], 101))
