"""Whether a payer may travel: first-ride risk and the deny list, as a pure state machine.

    NEW ──authorised──> GOOD <──paid in full── DENIED
     │                   │                        ^
     └────declined───────┴────────declined────────┘

A gate cannot wait for a bank, so the first ride of a travel period is let through before the money is
certain; if the authorisation or a later capture is declined, that ride is the operator's risk: the payer owes
it, is DENIED at every gate, sees the amount, and is cleared *at once* by paying it, or by a debt-recovery
attempt that succeeds.

Invariants: `owed` is never negative; a payer is DENIED if and only if something is owed; nothing else puts a
payer on the list, and nothing but payment (or the operator writing the debt off) takes them off.
"""

from dataclasses import dataclass
from enum import StrEnum

from facefare.fares.errors import BadEvent


class State(StrEnum):
    """NEW: no authorisation yet succeeded. GOOD: may travel. DENIED: owes something."""

    NEW = "new"
    GOOD = "good"
    DENIED = "denied"


@dataclass(frozen=True, repr=False)
class Standing:
    """A payer's standing with one operator. `owed` and `at_risk` in minor units.

    `at_risk` is what has been travelled since the money was last certain.
    """

    state: State = State.NEW
    owed: int = 0
    at_risk: int = 0

    def __post_init__(self) -> None:
        if self.owed < 0 or self.at_risk < 0:
            raise BadEvent("What a payer owes or has at risk can't be negative.")
        if (self.state is State.DENIED) != (self.owed > 0):
            raise BadEvent("A payer is denied if and only if they owe something.")

    def may_travel(self, risk_limit: int) -> bool:
        """Tell whether a gate may open: not denied, and not yet `risk_limit` minor units unsecured.

        A new payer may make the first ride whatever it costs; that is the first-ride risk.
        """
        return self.state is not State.DENIED and (self.at_risk == 0 or self.at_risk < risk_limit)

    def travelled(self, amount: int) -> "Standing":
        """A ride was let through whose money is not certain yet. Raises BadEvent for a denied payer."""
        if self.state is State.DENIED:
            raise BadEvent("A payer on the deny list can't travel before paying what is owed.")
        return Standing(self.state, 0, self.at_risk + _positive_or_zero(amount))

    def authorised(self, amount: int) -> "Standing":
        """`amount` became certain: authorised, captured or paid ahead. What was at risk shrinks by it."""
        at_risk = max(0, self.at_risk - _positive_or_zero(amount))
        if self.state is State.DENIED:  # a late answer to an old question pays no debt
            return Standing(self.state, self.owed, at_risk)
        return Standing(State.GOOD, 0, at_risk)

    def declined(self, amount: int) -> "Standing":
        """`amount` of travel was refused by the bank: it is owed, and the payer is on the deny list."""
        if amount <= 0:
            raise BadEvent("A declined amount must be positive.")
        return Standing(State.DENIED, self.owed + amount, max(0, self.at_risk - amount))

    def paid(self, amount: int) -> "Standing":
        """The payer, or debt recovery, paid `amount`: the debt shrinks; at zero they may travel at once.

        Raises BadEvent if that is more than is owed: the rest would vanish.
        """
        if amount <= 0 or amount > self.owed:
            raise BadEvent("A debt can be paid in part or in full, not beyond.")
        owed = self.owed - amount
        return Standing(State.DENIED if owed else State.GOOD, owed, self.at_risk)

    def written_off(self) -> "Standing":
        """The operator gives the debt up; the payer may travel at once."""
        if self.state is not State.DENIED:
            raise BadEvent("There is no debt to write off.")
        return Standing(State.GOOD, 0, self.at_risk)


def _positive_or_zero(amount: int) -> int:
    if amount < 0:
        raise BadEvent("An amount can't be negative.")
    return amount
