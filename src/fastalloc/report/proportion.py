"""The exact interval of a proportion, which holds its level wherever the counting was stopped."""

from scipy.special import betaincinv


def exact_bounds(hits: float, trials: float, alpha: float = 0.05) -> tuple[float, float]:
    """The interval of Clopper and Pearson (Biometrika 26, 1934), which errs with at most ``alpha``.

    It holds its level for a stop at a number of hits as for one after a number of trials: the lower end is that of
    either, the upper end of such a stop (as few hits but one in a trial less) lies below. Hits and trials of an
    effective number need not be whole.
    """
    low = 0.0 if hits == 0 else float(betaincinv(hits, trials - hits + 1, alpha / 2))
    high = 1.0 if hits == trials else float(betaincinv(hits + 1, trials - hits, 1 - alpha / 2))
    return low, high
