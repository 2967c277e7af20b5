"""Pay a fare or a coffee by looking at a camera: opt-in, and private by construction."""

__version__ = "0.1.0"
