"""Templates: what stays of a face. Never printed, never written by this room."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facefare.biometrics.errors import ModelOutputError, TemplateMismatchError


@dataclass(frozen=True, repr=False, eq=False)
class Template:
    """A unit vector (D,) float32, and the id of the embedder that made it."""

    vector: NDArray[np.float32]
    model_id: str


def fuse(templates: Sequence[Template]) -> Template:
    """Return the normalised mean of several views of one face.

    Raises TemplateMismatchError for no templates or templates of different embedders.
    """
    model_ids = {template.model_id for template in templates}
    if len(model_ids) != 1:
        raise TemplateMismatchError("Only templates of one embedder, and at least one, can be fused.")
    total = np.sum([template.vector for template in templates], axis=0, dtype=np.float64)
    return Template(unit(total), model_ids.pop())


def unit(vector: ArrayLike) -> NDArray[np.float32]:
    """Scale to length 1. Raises ModelOutputError for a vector without direction."""
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length < 1e-6:
        raise ModelOutputError("The embedder gave a vector without direction.")
    return np.asarray(vector, dtype=np.float32) / np.float32(length)
