"""Probe against reference, 1:1: yes or no, never a score.

The comparison score is minus the squared distance of the quantised templates, as in the 1:N search; the
threshold is the calibration's for one reference, whose false match rate does not grow with the payers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from facefare.identification.calibration import Calibration
from facefare.identification.held.code import Claim
from facefare.identification.held.errors import WrongModel
from facefare.identification.quantise import quantise


def matches(probe: ArrayLike, claim: Claim, calibration: Calibration) -> bool:
    """Whether a probe's template (D,) is of the person whose reference was opened.

    Raises:
        CalibrationError, TemplateOutOfRange: see `quantise`; no 1:1 threshold was measured.
        WrongModel: the reference has other dimensions, or no reference of this model looks like it.
    """
    live = quantise(probe, calibration).astype(np.int64)
    reference = claim.reference.astype(np.int64)
    if reference.shape != live.shape:
        raise WrongModel("The reference has other dimensions than this terminal's templates.")
    if not calibration.min_squared_norm <= int((reference**2).sum()) <= calibration.max_squared_norm:
        raise WrongModel("The reference is unlike any face's; make it anew.")
    return -int(((live - reference) ** 2).sum()) >= calibration.verification_threshold
