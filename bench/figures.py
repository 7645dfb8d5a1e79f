"""Median, 95th percentile and maximum, and how tables show them. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Times = dict[str, list[float]]
WIDTH = 52


def median(values: Sequence[float]) -> float:
    """The middle one, or halfway between the two."""
    return percentile(values, 0.5)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share lies, by linear interpolation between neighbours. Raises ValueError for none."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below, above = math.floor(place), math.ceil(place)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def summary(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, 95th percentile, maximum."""
    return median(values), percentile(values, 0.95), max(values)


def titles(what: str) -> list[str]:
    """The head of a table."""
    return [what, f"{'':{WIDTH}}{'median':>9}{'95th':>9}{'max':>9}"]


def row(title: str, values: Sequence[float], digits: int = 3) -> str:
    """One line: what it is and its three figures; a dash for each where nothing was measured."""
    shown = [f"{value:>9.{digits}f}" for value in summary(values)] if values else [f"{'-':>9}"] * 3
    return f"{title:{WIDTH}}" + "".join(shown)


def comparison(times: Mapping[str, Sequence[float]], over: str, under: str, aim: str = "") -> str:
    """One line of ratios: medians, 95th percentiles and maxima of the one by those of the other."""
    pairs = zip(summary(times[over]), summary(times[under]), strict=True)
    title = f"     {over} / {under}" + (f"   aim: {aim}" if aim else "")
    return f"{title:{WIDTH}}" + "".join(f"{a / b:>9.2f}" for a, b in pairs)
