"""Templates as small integers: w = rint(scale * (u - m)), u the unit vector of the template, m the centre.

Minus the squared distance of two such vectors ranks as cosine similarity of the templates does, and keeps far
more of it after rounding than integers of u itself would (the common part of all faces is taken out).
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
    rounded: NDArray[np.int32] = np.rint(calibration.scale * centred).astype(np.int32)
    norms = (rounded.astype(np.int64) ** 2).sum(axis=-1)
    inside = (norms >= calibration.min_squared_norm) & (norms <= calibration.max_squared_norm)
    if rounded.min() < -128 or rounded.max() > 127 or not inside.all():
        raise TemplateOutOfRange("The template is unlike any face's; take the pictures again.")
    return rounded
