"""`python -m facefare`."""

from facefare.cli import main

main()
