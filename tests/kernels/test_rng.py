"""rng: published vectors, the reach of each argument, and the distributions, with fixed seeds and stated error."""

import math

import numpy as np
import pytest
from numba import config

from fastalloc.compiler.jit import kernel
from fastalloc.kernels.lane import rng

MASK = (1 << 64) - 1
STATISTICS = pytest.mark.skipif(
    config.DISABLE_JIT, reason="millions of draws; interpreted draws are the compiled ones: vectors, pinned"
)

# kat_vectors of the Random123 distribution, philox4x32 10: counter, key, answer
VECTORS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def u64(*values):
    return tuple(np.uint64(v) for v in values)


@kernel
def many_draws(seed, stream, lane, time, count, out):
    for n in range(count):
        out[n] = rng.draw(seed, stream, lane, time + n // 65536, n % 65536)


@kernel
def many_exponentials(mean, draws, out):
    for n in range(draws.shape[0]):
        out[n] = rng.exponential_ns(draws[n], mean)


@kernel
def many_below(bound, draws, out):
    for n in range(draws.shape[0]):
        out[n] = rng.below(draws[n], bound)


def draws(count, seed=2008, stream=1, lane=0, time=0):
    out = np.zeros(count, np.uint64)
    many_draws(seed, stream, lane, time, count, out)
    return out


@pytest.mark.parametrize(("counter", "key", "answer"), VECTORS)
def test_published_vectors(counter, key, answer):
    assert tuple(int(x) for x in rng.philox(*u64(*counter, *key))) == answer


def test_draw_packs_its_arguments_as_documented():
    for seed, stream, lane, time, n in [(0, 0, 0, 0, 0), (7, 3, 1000, 1 << 40, 9), (MASK, 65535, 2**32 - 1, 5, 65535)]:
        counter = ((stream << 16) | n, lane, time & 0xFFFFFFFF, time >> 32)
        x0, x1, _, _ = rng.philox(*u64(*counter, seed & 0xFFFFFFFF, seed >> 32))
        assert int(rng.draw(*u64(seed, stream, lane, time, n))) == (int(x1) << 32) | int(x0)


def test_signed_and_unsigned_arguments_agree():
    assert int(rng.draw(2008, 1, 2, 3, 4)) == int(rng.draw(*u64(2008, 1, 2, 3, 4)))


@pytest.mark.skipif(config.DISABLE_JIT, reason="interpreted kernels have no signatures")
def test_numbers_stay_integers():
    a = rng.draw(2008, 1, 2, 3, 4)
    assert all(str(s.return_type) == "uint64" for s in rng.draw.nopython_signatures)
    rng.below(a, 10)
    rng.exponential_ns(a, 10)
    for function in (rng.below, rng.exponential_ns):
        assert all(str(s.return_type) == "int64" for s in function.nopython_signatures)


def test_numbers_above_the_signed_range_survive_calls_between_kernels():
    for seed in (MASK, 1 << 63, (1 << 63) + 5):
        through = np.zeros(4, np.uint64)
        many_draws(np.uint64(seed), 1, 2, 3, 4, through)
        assert [int(x) for x in through] == [int(rng.draw(np.uint64(seed), 1, 2, 3, n)) for n in range(4)]
    gaps = np.zeros(2, np.int64)
    many_exponentials(1000, np.array([0, MASK], np.uint64), gaps)
    assert gaps.tolist() == [round(65 * math.log(2) * 1000), 0]


def test_every_argument_matters_and_no_draw_repeats():
    seen = set()
    points = 0
    for seed in (1, 2, 1 << 33):
        for stream in range(4):
            for lane in range(8):
                for time in (0, 1, 2, 1 << 32, 1 << 45):
                    for n in range(4):
                        seen.add(int(rng.draw(seed, stream, lane, time, n)))
                        points += 1
    assert len(seen) == points


def test_a_draw_does_not_depend_on_what_was_drawn_before():
    forward = draws(1000)
    backward = [int(rng.draw(2008, 1, 0, 0, n)) for n in reversed(range(1000))]
    assert [int(x) for x in forward] == backward[::-1]


def test_multiply_high_is_exact():
    numbers = [0, 1, 2, 3, 0xFFFFFFFF, 1 << 32, (1 << 32) + 1, 1 << 63, MASK, MASK - 1, 0x9E3779B97F4A7C15]
    numbers += [int(x) for x in draws(50)]
    for a in numbers:
        for b in numbers:
            assert int(rng.multiply_high(*u64(a, b))) == (a * b) >> 64


def test_below_is_multiply_high_and_stays_in_range():
    for number in [0, 1, MASK, 1 << 63] + [int(x) for x in draws(200)]:
        for bound in (1, 2, 3, 10, 1000, 2**31, 2**62):
            assert rng.below(np.uint64(number), bound) == number * bound >> 64
    assert rng.below(np.uint64(MASK), 0) == 0


def test_happens_has_its_probability():
    hits = sum(bool(rng.happens(x, 101, 1024)) for x in draws(20_000, stream=5))
    expected = 20_000 * 101 / 1024
    assert abs(hits - expected) < 4 * math.sqrt(expected * (1 - 101 / 1024))
    assert not rng.happens(np.uint64(0), 0, 10)
    assert rng.happens(np.uint64(MASK), 10, 10)


def chi_square(counts):
    expected = counts.sum() / len(counts)
    return float(((counts - expected) ** 2).sum() / expected)


@STATISTICS
@pytest.mark.parametrize("bound", [2, 3, 10, 100, 1000])
@pytest.mark.parametrize(("stream", "lane"), [(0, 0), (1, 0), (0, 1), (9, 4095)])
def test_below_is_equidistributed(bound, stream, lane):
    """Chi-square within 4 standard deviations of its mean (20 fixed cases)."""
    number = draws(200_000, stream=stream, lane=lane)
    out = np.zeros(len(number), np.int64)
    many_below(bound, number, out)
    freedom = bound - 1
    assert abs(chi_square(np.bincount(out, minlength=bound)) - freedom) < 4 * math.sqrt(2 * freedom)


@STATISTICS
def test_every_bit_is_fair_and_neighbours_are_independent():
    """200 000 draws: a bit's frequency has sd 0.00112, so has the agreement of a bit with that of the next lane."""
    a = draws(200_000)
    b = draws(200_000, lane=1)
    c = draws(200_000, stream=2)
    for other in (np.zeros_like(a), b, c, np.roll(a, 1)):
        for bit in range(64):
            share = float(((a ^ other) >> np.uint64(bit) & np.uint64(1)).mean())
            assert abs(share - 0.5) < 4.5 * 0.00112


def test_minus_log2_error_is_as_stated():
    worst = 0.0
    for number in [0, 1, 2, 3, MASK, MASK - 1, 1 << 63, (1 << 63) - 1] + [int(x) for x in draws(3000)]:
        # exact to far below the bound: number + 1/2 as a ratio of whole numbers
        shift = max((2 * number + 1).bit_length() - 60, 0)
        exact = 65 - (math.log2((2 * number + 1) >> shift) + shift)
        worst = max(worst, int(rng.minus_log2(np.uint64(number))) / 2**57 - exact)
        assert int(rng.minus_log2(np.uint64(number))) / 2**57 - exact > -1e-13
    assert 1e-8 < worst < 1.72e-7


def test_log2_table_is_exact():
    for i in (0, 1, 511, 512, 1000, 1023, 1024):
        assert abs(int(rng.LOG2[i]) / 2**57 - math.log2(1 + i / 1024)) < 1e-15


@STATISTICS
@pytest.mark.parametrize("mean", [1, 7, 1000, 4_000_000, 10**12])
def test_exponential_has_its_mean_variance_and_quantiles(mean):
    """400 000 fixed draws: mean within 4 sd (0.0016 each), variance within 4 sd (0.0045), quantiles within 4 sd."""
    count = 400_000
    out = np.zeros(count, np.int64)
    many_exponentials(mean, draws(count, stream=3), out)
    assert out.min() >= 0
    slack = 1 / (24 * mean**2)
    assert abs(out.mean() / mean - 1) < 4 / math.sqrt(count) + slack
    if mean >= 1000:
        assert abs(out.var() / mean**2 - 1) < 4 * math.sqrt(8 / count)
        for q in (0.01, 0.1, 0.5, 0.9, 0.99, 0.999):
            share = float((out < -math.log(1 - q) * mean).mean())
            assert abs(share - q) < 4 * math.sqrt(q * (1 - q) / count) + 0.5 / mean


def test_exponential_edges():
    assert rng.exponential_ns(np.uint64(MASK), 10**15) == 0  # u next to 1
    assert rng.exponential_ns(np.uint64(0), 10**6) == round(65 * math.log(2) * 10**6)
    assert rng.exponential_ns(np.uint64(0), 0) == 0
    largest = rng.exponential_ns(np.uint64(0), (1 << 57) - 1)
    assert 45.05 < largest / ((1 << 57) - 1) < 45.06


PINNED = (9441286042902033121, 6717347120847103044)


def test_draws_of_a_fixed_seed_do_not_change():
    """Part of the model version: stored datasets are re-run from these numbers."""
    assert [int(rng.draw(2008, 1, lane, 250, 0)) for lane in range(2)] == list(PINNED)
