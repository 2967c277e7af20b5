"""Shares and the three-party protocol: arrays and channels in, match bits out. Knows no files, no HTTP."""
