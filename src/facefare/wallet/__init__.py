"""Payers, their consents and their faces' rows: who may be charged, and on what permission.

Jobs, one module each: `payers` (an account, its token and its money), `pins` (a second factor), `consents` (signed
receipts), `stations` (who may enrol), `galleries` and `faces` (which row of which gallery is whose), `enrolments`
(whether one may be made), `changes` (of galleries, as written down), `carrying` (them to the three guardians, who must
confirm), `access` (what was done with a face, for its owner to read).

The wallet holds no template, no share it could open and no score; it knows rows. A sealed enrolment, which
it can't open either, is kept only until all three guardians have confirmed it.
"""
