"""What can go wrong at a gate or a till; every message is for its operator.

TerminalError
 ├─ ConfigurationError    the terminal's file is missing something or points at something that isn't there
 └─ NotNow                the till is doing something else, or that is no amount
"""


class TerminalError(Exception):
    """Base of all errors of this room."""


class ConfigurationError(TerminalError):
    """The terminal's configuration can't be used; says which line to change."""


class NotNow(TerminalError):
    """What was pressed does not fit what the till shows."""
