"""Double-entry accounts and two-phase transfers."""
