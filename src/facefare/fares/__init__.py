"""Tariffs, journeys, caps."""
