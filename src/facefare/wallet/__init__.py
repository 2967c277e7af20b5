"""Payers, consents, enrolments and data rights."""
