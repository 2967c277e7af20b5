"""Gate and till: camera, attempt, screen, what to do when the network is gone."""
