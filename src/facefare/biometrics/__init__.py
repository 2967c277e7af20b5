"""Frames to template: detector, quality, presentation attack detection, embedder. Knows no names, no money.

The way through: `install` once, `FacePipeline.load`, frames from `open_source` or `decode`, then
`pipeline.observe`, a `QualityPolicy`'s hint, `pipeline.embed`, and `fuse` over several views.
"""

from facefare.biometrics.pictures import decode
from facefare.biometrics.pipeline import FacePipeline, Observation
from facefare.biometrics.quality import ENROLMENT, GATE, HeadPose, Hint, Quality, QualityPolicy
from facefare.biometrics.template import Template, fuse

__all__ = [
    "ENROLMENT",
    "GATE",
    "FacePipeline",
    "HeadPose",
    "Hint",
    "Observation",
    "Quality",
    "QualityPolicy",
    "Template",
    "decode",
    "fuse",
]
