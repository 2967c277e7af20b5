"""What belongs to one embedder at one kind of site: centre, scale, input rule and thresholds.

Job: read it from a JSON file, check it, and give the threshold for the current number of payers.
Invariant: thresholds follow the current number of payers; where the table ends, there is no threshold, and
the caller has to ask for a second factor instead.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facefare.files import read_text, sentence
from facefare.identification.errors import CalibrationError

_ELSEWHERE: Final = 0.1
"""Weight of a squared error across the directions in which templates differ; 1 in them. Less gains little, and what
two errors there add to a squared distance begins to vary."""


@dataclass(frozen=True)
class Threshold:
    """For up to `payers` payers the false-positive identification rate stays at `fpir` at this threshold.

    fpir_high: the upper end of the interval that it was measured within; None where that was not measured.
    face_alone: what a face alone may pay at this risk, in minor units of the calibration's currency; None where no
        risk was measured. See `facefare.evaluation.amounts`.
    """

    payers: int
    fpir: float
    threshold: int
    fpir_high: float | None = None
    face_alone: int | None = None


@dataclass(frozen=True)
class Verification:
    """Comparing with one reference only (1:1), a stranger is taken for its owner at the false match rate `fmr`."""

    fmr: float
    threshold: int


@dataclass(frozen=True, eq=False)
class Calibration:
    """Of one embedder.

    Attributes:
        model: the embedder's id; a gallery holds templates of one model.
        mean: (D,) float32, the public centre that is subtracted from unit vectors.
        scale: integers a unit of length.
        min_squared_norm, max_squared_norm: the input rule for quantised templates.
        thresholds: in any order; negative squared distances.
        verification: for comparisons with one reference; none where it was not measured.
        directions: (K, D) float32, rows orthonormal, K < D: in which this embedder's templates differ. None where
            they differ in all, or it was not measured.
        currency: of the amounts that a face alone may pay (ISO 4217); None where the file holds none.
        placeholder: true while the centre was not measured with the embedder: for tests only.
    """

    model: str
    mean: NDArray[np.float32]
    scale: float
    min_squared_norm: int
    max_squared_norm: int
    thresholds: tuple[Threshold, ...]
    verification: Verification | None = None
    directions: NDArray[np.float32] | None = None
    currency: str | None = None
    placeholder: bool = False

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or len(self.mean) % 2 or not np.isfinite(self.mean).all():
            raise CalibrationError("The mean is a vector of an even number of finite values.")
        if not 0 < self.scale <= 1000:
            raise CalibrationError("The scale is above 0 and at most 1000.")
        if not 1 <= self.min_squared_norm <= self.max_squared_norm <= 8191:
            raise CalibrationError("Squared norms lie within 1 and 8191, lower bound first.")
        if self.directions is not None:
            self._check(self.directions)
        for row in self.thresholds:
            if row.payers < 1 or not 0 < row.fpir < 1 or not -32_767 <= row.threshold <= -1:
                raise CalibrationError("A threshold has payers >= 1, FPIR in (0, 1), and is in -32,767..-1.")
            if (row.fpir_high is not None and not 0 <= row.fpir_high <= 1) or (row.face_alone or 0) < 0:
                raise CalibrationError("An FPIR's upper end lies within 0 and 1, an amount is not negative.")
        one = self.verification
        if one is not None and not (0 < one.fmr < 1 and -32_767 <= one.threshold <= -1):
            raise CalibrationError("A 1:1 threshold has an FMR in (0, 1), and is in -32,767..-1.")

    def _check(self, directions: NDArray[np.float32]) -> None:
        if directions.ndim != 2 or not 0 < len(directions) < directions.shape[1] == self.dimensions:
            raise CalibrationError("Directions are fewer than dimensions, and each has as many values.")
        products = directions.astype(np.float64) @ directions.T
        if not np.isfinite(products).all() or np.abs(products - np.eye(len(directions))).max() > 0.01:
            raise CalibrationError("Directions have length 1 and are orthogonal.")

    @property
    def dimensions(self) -> int:
        """D."""
        return len(self.mean)

    @cached_property
    def carried(self) -> NDArray[np.float64] | None:
        """How much of the rounding error of each coordinate before it (column) a coordinate (row) makes up for, (D, D).

        A squared error weighs e' P e, with P 1 in `directions` and less elsewhere. With P = U U', U upper
        triangular, it is the sum of squares of U' e: so the lower triangle U', each row over its diagonal value.
        None without directions.
        """
        if self.directions is None:
            return None
        inside = self.directions.astype(np.float64).T @ self.directions
        weights = inside + _ELSEWHERE * (np.eye(self.dimensions) - inside)
        upper = np.linalg.cholesky(weights[::-1, ::-1])[::-1, ::-1]  # weights = upper @ upper.T
        carried: NDArray[np.float64] = upper.T / np.diag(upper)[:, None]
        return carried

    def require_model(self, model_id: str) -> None:
        """Refuse templates of another embedder: a comparison with them would mean nothing.

        Raises:
            CalibrationError: `model_id` is not this calibration's.
        """
        if model_id != self.model:
            raise CalibrationError(
                f"The template is of {model_id}, the gallery and its calibration are of {self.model}. "
                "A new embedder needs a gallery and enrolments of its own."
            )

    def threshold(self, payers: int, fpir: float) -> int:
        """The loosest threshold that holds `fpir` for at least `payers` payers.

        Raises:
            CalibrationError: the table does not reach that far; ask for a second factor.
        """
        return self._row(payers, fpir).threshold

    def face_alone(self, payers: int, fpir: float) -> dict[str, int]:
        """What a face alone may pay at the threshold of `threshold`, in minor units by currency.

        Empty where nothing was measured for so many payers: every payment then takes a second factor.
        """
        try:
            amount = self._row(payers, fpir).face_alone
        except CalibrationError:
            return {}
        return {} if amount is None or self.currency is None else {self.currency: amount}

    def _row(self, payers: int, fpir: float) -> Threshold:
        fitting = [row for row in self.thresholds if row.payers >= payers and row.fpir <= fpir * (1 + 1e-9)]
        if not fitting:
            raise CalibrationError(f"No threshold was measured for {payers} payers at FPIR {fpir:g}.")
        # Equal thresholds are one decision: of their rows, the one that states the larger risk counts.
        return max(fitting, key=lambda row: (abs(row.threshold), row.fpir_high or 0.0))

    @property
    def verification_threshold(self) -> int:
        """Of comparisons with one reference; raises CalibrationError where it was not measured."""
        if self.verification is None:
            raise CalibrationError("No threshold was measured for comparing with one reference.")
        return self.verification.threshold

    @classmethod
    def from_json(cls, document: str) -> Calibration:
        """From the text of a calibration file; raises `CalibrationError`."""
        try:
            body: dict[str, Any] = json.loads(document)
            return cls(
                model=str(body["model"]),
                mean=np.array(body["mean"], np.float32),
                scale=float(body["scale"]),
                min_squared_norm=int(body["min_squared_norm"]),
                max_squared_norm=int(body["max_squared_norm"]),
                thresholds=tuple(Threshold(**row) for row in body["thresholds"]),
                verification=Verification(**body["verification"]) if "verification" in body else None,
                directions=np.array(body["directions"], np.float32) if "directions" in body else None,
                currency=str(body["currency"]) if "currency" in body else None,
                placeholder=bool(body.get("placeholder", False)),
            )
        except json.JSONDecodeError as error:
            raise CalibrationError(f"This is no calibration file: it is no JSON (line {error.lineno}).") from error
        except KeyError as error:
            raise CalibrationError(f"This is no calibration file: {error.args[0]} is missing.") from error
        except (ValueError, TypeError) as error:
            raise CalibrationError("This is no calibration file: a value in it is of another kind.") from error

    @classmethod
    def from_file(cls, path: Path) -> Calibration:
        """From a file; raises `CalibrationError`."""
        try:
            return cls.from_json(read_text(path))
        except OSError as error:
            raise CalibrationError(sentence(error)) from error
        except CalibrationError as error:
            raise CalibrationError(f"{path}: {error}") from error

    @classmethod
    def default(cls) -> Calibration:
        """The one that comes with the default embedder."""
        return cls.from_json(cls.default_text())

    @staticmethod
    def default_text() -> str:
        """The text of its file, which also says what was measured."""
        return (resources.files("facefare.identification") / "default_calibration.json").read_text()
