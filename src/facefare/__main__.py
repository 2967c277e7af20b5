"""`facefare` and `python -m facefare`.

Invariant: a guardian's process loads the guardian's code only, none that could see a face, a name or money.
"""

import sys


def main() -> None:
    """Run the command that the arguments name."""
    if sys.argv[1:2] == ["guardian"]:
        from facefare.guardian.commands import app

        app(sys.argv[2:], prog_name="facefare guardian")
    else:
        from facefare.cli import main as everything

        everything()


if __name__ == "__main__":
    main()
