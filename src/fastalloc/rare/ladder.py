"""A ladder of stress settings: where the event is common enough to be counted, and what that says of rarer ones.

Accelerated testing: the chance p of the event in a lane is measured at settings that make it common, ln H (H = -ln(1 -
p), the cumulative hazard of a lane) is fitted as a straight line over the setting, and read off a little beyond. That
is a binomial regression with the complementary log-log link [McCullagh and Nelder, Generalized Linear Models, 1989, ch.
4]; the straight line is the log-linear life-stress model [Nelson, Accelerated Testing, 1990, ch. 2, 5 and 11, which
says how far beyond the lowest stress one may read: as little as can be]. The line is tested before it is used.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import chdtrc, ndtri

DECADE = np.log(10.0)
WORST_FIT = 0.05  # p below which the line, or the line beside a parabola, is given up
FEWEST_RUNGS = 3  # with events: two points lie on every line


class Rung(NamedTuple):
    """Lanes at one setting."""

    setting: float
    lanes: int
    events: int


class Line(NamedTuple):
    """ln H = a + b setting."""

    a: float
    b: float
    covariance: np.ndarray  # float64[2, 2]
    fit_p: float  # of the rungs lying on the line, by their deviance; 1 where there are two rungs
    curvature_p: float  # of a parabola being no better, by the likelihood ratio
    # Of the line without the last decade foretelling the rungs in it: the least of all together and of each alone, so
    # it refuses a little more often than it says; 1 where too few rungs are before.
    decade_p: float
    rungs: tuple[Rung, ...]

    @property
    def is_straight(self) -> bool:
        """Whether the line may be used."""
        return self.worst_p >= WORST_FIT

    @property
    def worst_p(self) -> float:
        """The least of the three."""
        return min(self.fit_p, self.curvature_p, self.decade_p)


class Predicted(NamedTuple):
    """The chance of the event in a lane at a setting, by the line."""

    setting: float
    share: float
    low: float  # 95 %
    high: float
    is_beyond: bool  # rarer than what was measured: a model, not a measurement


def _hazards(parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
    hazards: np.ndarray = np.exp(np.clip(np.polynomial.polynomial.polyval(x, parameters), -60.0, 6.0))
    return hazards


def _loss(parameters: np.ndarray, x: np.ndarray, lanes: np.ndarray, events: np.ndarray) -> float:
    """Minus the log likelihood, without its constant."""
    hazards = _hazards(parameters, x)
    return float(-(events * np.log(-np.expm1(-hazards)) - (lanes - events) * hazards).sum())


def _fitted(degree: int, x: np.ndarray, lanes: np.ndarray, events: np.ndarray) -> tuple[np.ndarray, float]:
    start = np.polynomial.polynomial.polyfit(x, np.log(-np.log1p(-(events + 0.5) / (lanes + 1))), degree)
    best = minimize(
        _loss,
        start,
        (x, lanes, events),
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-10, "maxiter": 8000, "maxfev": 8000},
    )
    return best.x, float(best.fun)


def fit(rungs: Sequence[Rung]) -> Line:
    """The line through rungs by maximum likelihood, with its tests.

    The rungs within a decade of the rarest that saw the event are the last decade. Where three or more that saw it lie
    before, the line through these must foretell those in it, within the error of both.

    Raises:
        ValueError: fewer than three rungs have an event, or all settings are one.
    """
    used = sorted(rungs)
    if sum(rung.events > 0 for rung in used) < FEWEST_RUNGS:
        raise ValueError(f"fewer than {FEWEST_RUNGS} rungs saw the event")
    settings, lanes, events = (np.array(column, float) for column in zip(*used, strict=True))
    middle, scale = settings.mean(), settings.std()
    if scale == 0:
        raise ValueError("all rungs have one setting")
    x = (settings - middle) / scale
    line, loss = _fitted(1, x, lanes, events)
    _, curved = _fitted(2, x, lanes, events) if len(used) > 2 else (line, loss)
    share = np.clip(events / lanes, 1e-300, 1 - 1e-16)
    full = -(
        np.where(events > 0, events * np.log(share), 0)
        + np.where(events < lanes, (lanes - events) * np.log1p(-share), 0)
    ).sum()
    free = len(used) - 2
    hazards = _hazards(line, x)
    # Fisher information of the complementary log-log link
    weight = lanes * hazards**2 / np.expm1(hazards)
    information = np.array([[weight.sum(), (weight * x).sum()], [(weight * x).sum(), (weight * x * x).sum()]])
    back = np.array([[1.0, -middle / scale], [0.0, 1 / scale]])  # from the scaled parameters to a and b
    a, b = back @ line
    covariance = back @ np.linalg.inv(information) @ back.T
    on_line = float(chdtrc(free, max(0.0, 2 * (loss - full)))) if free else 1.0
    no_bend = float(chdtrc(1, max(0.0, 2 * (loss - curved)))) if free else 1.0
    found = Line(float(a), float(b), covariance, on_line, no_bend, 1.0, tuple(used))
    return found._replace(decade_p=_foretold(found))


def _foretold(line: Line) -> float:
    """p of the rungs of the last decade being as the line through those before foretells them."""
    before, last = last_decade(line)
    if sum(rung.events > 0 for rung in before) < FEWEST_RUNGS:
        return 1.0
    try:
        earlier = fit(before)
    except (ValueError, np.linalg.LinAlgError):
        return 1.0
    at = np.array([[1.0, rung.setting] for rung in last])
    wanted = np.log([-np.log1p(-rung.events / rung.lanes) for rung in last])
    apart = wanted - at @ (earlier.a, earlier.b)
    error = at @ earlier.covariance @ at.T + np.diag([1 / rung.events for rung in last])
    together = float(chdtrc(len(last), max(0.0, apart @ np.linalg.solve(error, apart))))
    return min(
        together, *(float(chdtrc(1, gap**2 / spread)) for gap, spread in zip(apart, error.diagonal(), strict=True))
    )


def last_decade(line: Line) -> tuple[list[Rung], list[Rung]]:
    """The rungs before the last decade by the line, and those in it that saw the event."""
    log_hazards = {rung: line.a + line.b * rung.setting for rung in line.rungs}
    rarest = min(log for rung, log in log_hazards.items() if rung.events)
    inside = [rung for rung, log in log_hazards.items() if log < rarest + DECADE]
    return [rung for rung in line.rungs if rung not in inside], [
        rung for rung in inside if 0 < rung.events < rung.lanes
    ]


def predict(line: Line, setting: float) -> Predicted:
    """The chance at a setting with its interval; at most a decade rarer than the rarest rung that saw the event.

    Raises:
        ValueError: the rungs lie on no straight line, or the setting lies further out.
    """
    if not line.is_straight:
        raise ValueError(f"the rungs lie on no straight line (p {line.worst_p:.2g})")
    at = np.array([1.0, setting])
    log_hazard = float(at @ (line.a, line.b))
    rarest = min(line.a + line.b * rung.setting for rung in line.rungs if rung.events)
    if log_hazard < rarest - DECADE:
        raise ValueError("more than a decade beyond the rarest rung that saw the event")
    spread = float(ndtri(0.975) * np.sqrt(at @ line.covariance @ at))
    share, low, high = (float(-np.expm1(-np.exp(log_hazard + way * spread))) for way in (0, -1, 1))
    return Predicted(setting, share, low, high, log_hazard < rarest)
