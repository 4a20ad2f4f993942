"""The minimum of each group of rows, on the grid or of a fitted sinusoid. Pure.

An expectation value depends on the angle x of a rotation whose generator has the eigenvalues +1/2 and
-1/2 as a + b cos x + c sin x, exactly, whatever else the circuit does. Three angles determine it; more
average the shot noise down, and the minimum a - sqrt(b² + c²) lies between the grid points.
K. M. Nakanishi, K. Fujii, S. Todo, Phys. Rev. Research 2, 043158 (2020);
M. Ostaszewski, E. Grant, M. Benedetti, Quantum 5, 391 (2021).

All groups are computed at once, with sums in row order, so the same rows always give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shotbus.schemas.packed import Array

#: Below this ratio of the normal matrix's eigenvalues the angles do not determine three coefficients.
_SINGULAR = 1e-10


@dataclass(frozen=True, slots=True)
class Minima:
    """One entry a group, ascending by group id; NaN where the rows at hand do not determine it.

    ``argmin`` in the unit of the axis, ``minimum`` and its standard error ``stderr`` in the unit of the
    values, ``residual`` the norm of values minus fit (0 on the grid), ``counted`` the rows used.
    """

    groups: Array
    argmin: Array
    minimum: Array
    stderr: Array
    residual: Array
    counted: Array

    def arrays(self) -> dict[str, Array]:
        """Return the arrays as they travel in a reduction's payload."""
        return {
            "groups": self.groups.astype("<i4"),
            "argmin": self.argmin,
            "minimum": self.minimum,
            "stderr": self.stderr,
            "residual": self.residual,
            "counted": self.counted.astype("<i4"),
        }


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows at hand: ``group`` is an index into ``groups``, the rest float64."""

    groups: Array
    group: Array
    x: Array
    y: Array
    std: Array

    def sum(self, weights: Array) -> Array:
        return np.bincount(self.group, weights=weights, minlength=self.groups.size)

    @property
    def counted(self) -> Array:
        return np.bincount(self.group, minlength=self.groups.size)


def _at_hand(row_groups: Array, axis: Array, values: Array, stds: Array) -> _Rows:
    groups, group = np.unique(row_groups, return_inverse=True)
    here = np.isfinite(values)
    return _Rows(groups, group[here], axis[here], values[here], stds[here])


def grid_minima(row_groups: Array, axis: Array, values: Array, stds: Array) -> Minima:
    """Return the smallest row of each group (the first of equals); arguments are one entry a row."""
    rows = _at_hand(row_groups, axis, values, stds)
    order = np.lexsort((rows.y, rows.group))
    found, first = np.unique(rows.group[order], return_index=True)
    best = order[first]

    def spread(source: Array) -> Array:
        full = np.full(rows.groups.size, np.nan)
        full[found] = source[best]
        return full

    residual = np.zeros(rows.groups.size)
    return Minima(rows.groups, spread(rows.x), spread(rows.y), spread(rows.std), residual, rows.counted)


def sinusoid_minima(row_groups: Array, axis: Array, values: Array, stds: Array) -> Minima:
    """Fit a + b cos x + c sin x to each group by weighted least squares and return its minimum.

    Arguments are one entry a row; ``axis`` in radians. Rows are weighted by 1/std². A row whose sampled
    std is 0 gets its group's smallest positive one: no finite sample is free of error. A group of exact
    rows only (all std 0) is not weighted and has the standard error 0.
    """
    rows = _at_hand(row_groups, axis, values, stds)
    sigma, exact = _sigmas(rows)
    design = np.stack([np.ones_like(rows.x), np.cos(rows.x), np.sin(rows.x)])
    coefficients, covariance = _solve(rows, design, sigma)
    residuals = rows.y - (coefficients[rows.group].T * design).sum(axis=0)
    minimum, argmin, variance = _bottom(coefficients, covariance)
    stderr = np.where(exact & np.isfinite(minimum), 0.0, np.sqrt(variance))
    norm = np.sqrt(rows.sum(residuals**2))
    return Minima(rows.groups, argmin, minimum, stderr, norm, rows.counted)


def _sigmas(rows: _Rows) -> tuple[Array, Array]:
    """Return the sigma of each row, and per group whether it has exact rows only."""
    smallest = np.full(rows.groups.size, np.inf)
    np.minimum.at(smallest, rows.group, np.where(rows.std > 0, rows.std, np.inf))
    exact = np.isinf(smallest)
    floor = np.where(exact, 1.0, smallest)[rows.group]
    return np.where(rows.std > 0, rows.std, floor), exact


def _solve(rows: _Rows, design: Array, sigma: Array) -> tuple[Array, Array]:
    """Return coefficients (groups x 3) and their covariance (groups x 3 x 3); NaN where undetermined."""
    count = rows.groups.size
    normal, right = np.empty((count, 3, 3)), np.empty((count, 3))
    for i in range(3):
        right[:, i] = rows.sum(design[i] * rows.y / sigma**2)
        for j in range(3):
            normal[:, i, j] = rows.sum(design[i] * design[j] / sigma**2)
    spectrum = np.linalg.eigvalsh(normal)
    undetermined = ~(spectrum[:, 0] > _SINGULAR * spectrum[:, 2])
    normal[undetermined] = np.eye(3)
    covariance = np.linalg.inv(normal)
    coefficients = np.linalg.solve(normal, right[:, :, None])[:, :, 0]
    covariance[undetermined] = np.nan
    coefficients[undetermined] = np.nan
    return coefficients, covariance


def _bottom(coefficients: Array, covariance: Array) -> tuple[Array, Array, Array]:
    """Return minimum, its place in (-pi, pi] and its variance, propagated to first order."""
    a, b, c = coefficients.T
    radius = np.hypot(b, c)
    argmin = np.arctan2(-c, -b)
    # At radius 0 every place is a minimum and the gradient has no direction: only a's variance is left.
    safe = np.where(radius > 0, radius, 1.0)
    gradient = np.stack([np.ones_like(a), -b / safe, -c / safe], axis=1)
    variance = np.einsum("gi,gij,gj->g", gradient, covariance, gradient)
    return a - radius, argmin, np.maximum(variance, 0.0)
