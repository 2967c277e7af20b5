"""One module a figure; each measures facefare beside a named peer, in the same run."""
