"""What may end any command, whichever room it is of."""


class SettingsError(Exception):
    """A setting is not as it should be; the text names the variable, never what it holds."""
