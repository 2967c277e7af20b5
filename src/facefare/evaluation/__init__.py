"""What an operator and an auditor ask: how often is the system wrong, for whom, and at which threshold.

For public sets and consenting volunteers only, never for traffic. Reports hold aggregates; what is kept to
resume an interrupted run is sealed and destroyed at its end.
"""
