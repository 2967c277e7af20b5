"""What can go wrong in an evaluation; each message says what to do.

EvaluationError
├── DatasetError            the folder or the CSV is not laid out as described
├── TooFewPeopleError       too few people or photos for a figure that means anything
├── CostsError              the file of costs is not one
└── ResumeError             what an interrupted run left cannot be opened
"""


class EvaluationError(Exception):
    """Base of every error of this room."""


class DatasetError(EvaluationError):
    """The folder or the CSV is not laid out as described."""


class TooFewPeopleError(EvaluationError):
    """Too few people or photos for a figure that means anything."""


class CostsError(EvaluationError):
    """The file of costs is not one."""


class ResumeError(EvaluationError):
    """What an interrupted run left cannot be opened."""
