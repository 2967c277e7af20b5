"""Templates as small integers near scale * (u - m), u the unit vector of the template, m the centre.

Minus the squared distance of two such vectors ranks as cosine similarity of the templates does, and keeps far
more of it after rounding than integers of u itself would (the common part of all faces is taken out).

An embedder's templates may differ in fewer directions than they have numbers (the default one's in 77 of 128). What
rounding does across these directions changes no ranking, so it is pushed there: coordinate after coordinate is
rounded to make up for what the ones before it did in the directions that count (Babai, On Lovasz' lattice reduction
and the nearest lattice point problem, 1986: the nearest plane). That halves the noise of rounding at the same scale.
Plain rounding, which a payer's own device does, compares with it: the integers mean the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facefare.identification.calibration import Calibration
from facefare.identification.errors import CalibrationError, TemplateOutOfRange


def quantise(template: ArrayLike, calibration: Calibration) -> NDArray[np.int32]:
    """Quantise one template (D,) or several (n, D), of any length above zero, to int32 of the same shape.

    Raises:
        CalibrationError: another number of dimensions, or values that are no numbers.
        TemplateOutOfRange: guardians would refuse the result.
    """
    vector = np.asarray(template, np.float64)
    if vector.ndim not in (1, 2) or vector.shape[-1] != calibration.dimensions:
        raise CalibrationError(f"A template of {calibration.model} has {calibration.dimensions} values.")
    length = np.linalg.norm(vector, axis=-1, keepdims=True)
    if not np.isfinite(length).all() or not (length > 0).all():
        raise CalibrationError("A template has finite values that are not all zero.")
    centred = vector / length - calibration.mean.astype(np.float64)
    rounded = _rounded(calibration.scale * centred, calibration).astype(np.int32)
    norms = (rounded.astype(np.int64) ** 2).sum(axis=-1)
    inside = (norms >= calibration.min_squared_norm) & (norms <= calibration.max_squared_norm)
    if rounded.min() < -128 or rounded.max() > 127 or not inside.all():
        raise TemplateOutOfRange("The template is unlike any face's; take the pictures again.")
    return rounded


def _rounded(values: NDArray[np.float64], calibration: Calibration) -> NDArray[np.float64]:
    """Round (D,) or (n, D) to whole numbers, with the error where the calibration says that it does no harm."""
    carried = calibration.carried
    if carried is None:
        return np.rint(values)
    whole, errors = np.empty_like(values), np.zeros_like(values)
    for place in range(calibration.dimensions):
        whole[..., place] = np.rint(values[..., place] - errors[..., :place] @ carried[place, :place])
        errors[..., place] = whole[..., place] - values[..., place]
    return whole
