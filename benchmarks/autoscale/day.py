"""A day's traffic, second by second: night and day, lunch, a flash crowd, a node that is lost."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SECONDS = 86_400
HOUR = 3_600


@dataclass(frozen=True)
class Day:
    """What happens when; times in seconds since midnight."""

    night: float = 0.2
    """Of the afternoon's rate, at four in the morning."""
    lunch_at: float = 12.5 * HOUR
    lunch: float = 0.4
    """More than the hours around it, at its height."""
    lunch_seconds: float = 0.5 * HOUR
    crowd_at: float = 20 * HOUR
    crowd: float = 5.0
    """Times the rate that there would be without it."""
    crowd_rise_seconds: float = 60
    crowd_stay_seconds: float = 900
    crowd_fall_seconds: float = 900
    """In which it falls to 1/e."""
    loss_at: float = 16 * HOUR
    loss_share: float = 0.25
    """Of the pods, on the node that is lost; one at least."""
    noise: float = 0.03
    """Standard deviation of the rate around its course, correlated over a minute."""
    seed: int = 0


def course(day: Day) -> npt.NDArray[np.float64]:
    """The rate of each second, where the afternoon without lunch and crowd has 1."""
    at = np.arange(SECONDS, dtype=np.float64)
    # Lowest at four in the morning, highest at four in the afternoon.
    wave = (1 - np.cos(2 * math.pi * (at - 4 * HOUR) / SECONDS)) / 2
    rate = day.night + (1 - day.night) * wave
    rate *= 1 + day.lunch * np.exp(-(((at - day.lunch_at) / day.lunch_seconds) ** 2))
    return rate * _crowd(day, at) * _noise(day)


def _crowd(day: Day, at: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    since = at - day.crowd_at
    rise = np.clip(since / day.crowd_rise_seconds, 0, 1)
    over = np.maximum(since - day.crowd_rise_seconds - day.crowd_stay_seconds, 0)
    return 1 + (day.crowd - 1) * rise * np.exp(-over / day.crowd_fall_seconds)


def _noise(day: Day) -> npt.NDArray[np.float64]:
    """Mean 1; what is left of a deviation after a minute is 1/e of it."""
    chance = np.random.default_rng(day.seed).normal(size=SECONDS)
    kept = math.exp(-1 / 60)
    values = np.empty(SECONDS)
    last = 0.0
    for second in range(SECONDS):
        last = kept * last + math.sqrt(1 - kept * kept) * chance[second]
        values[second] = last
    return 1 + day.noise * values


def height(day: Day) -> float:
    """Of the crowd's top, where the afternoon has 1."""
    wave = (1 - math.cos(2 * math.pi * (day.crowd_at - 4 * HOUR) / SECONDS)) / 2
    return day.crowd * (day.night + (1 - day.night) * wave)
