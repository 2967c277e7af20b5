"""Frames to template: detector, quality, presentation attack detection, embedder. Knows no names, no money."""
