"""What can go wrong at a gate, a till or an enrolment station; every message is for its operator.

TerminalError
 ├─ ConfigurationError    the terminal's file is missing something or points at something that isn't there
 ├─ NotNow                the till is doing something else, or that is no amount
 └─ NobodyEnrolled        the pictures ended before somebody did all that an enrolment station asks for
"""


class TerminalError(Exception):
    """Base of all errors of this room."""


class ConfigurationError(TerminalError):
    """The terminal's configuration can't be used; says which line to change."""


class NotNow(TerminalError):
    """What was pressed does not fit what the till shows."""


class NobodyEnrolled(TerminalError):
    """The pictures ended before somebody showed a code and did all that the station asks for."""
