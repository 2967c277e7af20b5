"""From the wallet's codes to sentences for people, in their language.

Money is written with the currency's code and the digits of ISO 4217; times in UTC stay readable without
JavaScript, and the browser rewrites them in its own zone.
"""

from facefare.fares.explain import ENGLISH, Line
from facefare.ledger.currency import MINOR_UNITS
from facefare.web.pages.languages import Language

REASONS = {
    "not_recognised": "We did not recognise you",
    "several_match": "We could not tell for sure who you are",
    "identification_unavailable": "Paying by face is not available right now",
    "paid_moments_ago": "You have paid already",
    "insufficient_funds": "Not enough money in the wallet",
    "currency_not_held": "The wallet holds another currency",
    "daily_limit": "Your limit for today is reached",
    "second_factor": "Your PIN is needed, or your app",
    "pin_wrong": "The PIN was wrong",
    "pin_locked": "The PIN is locked. Set a new one in your app",
    "confirmation_timed_out": "Nobody confirmed the payment in time",
    "owing": "Something is still owed. Your app shows what",
    "fare_unknown": "The fare is not known here",
    "not_seen_alive": "Please look at the camera again, or use your card",
}
"""Why a payment was not made, or not again; `_("…")` of each is in the catalogues."""

HINTS = {
    "come closer": "Come a little closer",
    "look at the camera": "Look at the camera",
    "hold still": "Hold still",
    "more light from the front": "There is too little light on your face",
    "less light": "There is too much light on your face",
    "turn towards the light": "Turn towards the light",
    "open your eyes": "Open your eyes",
    "take off the sunglasses": "Please take off your sunglasses",
    "uncover your mouth and nose": "Please uncover your mouth and nose",
    "turn your head a little": "Turn your head a little",
    "one person at a time": "One person at a time, please",
    "the camera's picture can't be read": "The camera has a problem",
}
"""The one thing to change in front of a camera."""

CAPTURE = {
    **HINTS,
    "look straight at the camera": "Look straight at the camera",
    "turn your head to your left": "Turn your head to your left",
    "turn your head to your right": "Turn your head to your right",
    "lift your chin a little": "Lift your chin a little",
    "lower your chin a little": "Lower your chin a little",
    "look straight at the camera and blink": "Look straight at the camera and blink",
    "good": "Good",
    "loading": "Getting ready. This takes a moment the first time",
    "not as asked": "That was not what was asked for. Please start again, and follow along",
    "not live": "The turns show no depth. Please start again, in person",
    "not one person": "The views do not look like one person. Please start again, one person only",
    "camera refused": "The camera is not allowed. You can allow it in the browser's settings, or pay another way",
    "no camera": "There is no camera here",
    "failed": "That did not work. Please try again",
    "stopped": "Stopped. Nothing was kept",
}
"""What the guided capture says, by the names that its module uses."""

PHONE = {
    "lock it": "Good. Now lock it, so that only you can use it",
    "keep it": "Good. Now keep it on this phone",
    "kept by passkey": "Done. It is locked with your passkey",
    "kept by browser": "Done. It is locked to this browser",
    "not for this phone": "This is not a station's code for this phone. Please read it again",
    "no passkey": "It stayed locked. Please confirm with the passkey that you set this phone up with",
    "another key": "This passkey does not open it. Use the one that you set this phone up with, or your recovery code",
    "wrong recovery code": "This recovery code does not open it. Please check each letter",
    "unlocked again": "It is locked with your new passkey. Your new recovery code:",
    "failed": "That did not work. Please try again",
}
"""What a phone that pays with a code says of locking and opening."""

CODE = {
    "open it": "Confirm that it is you",
    "hold it": "Hold the code to the camera, then look at it",
    "time is up": "Hidden, since nobody read it. Show it again when you are at the gate",
    "paid": "Paid:",
    "no terminals": "No gate or till takes codes yet, or this phone had no network so far",
    "old terminal": "This gate has a new key. Please connect this phone to a network once",
    "another model": "This gate reads faces in a newer way. Please set this phone up again",
    "not our terminal": "This is not a gate or till of your operator",
    "pass expired": "This phone was without a network for too long. Please connect it once",
    "phone paused": "This phone is paused, so no gate or till takes its code. You can switch it on again",
    "phone owing": "Something is owed for what it paid without a network. Until that is paid, its code is refused",
    "clock is off": "This phone's clock is wrong, so codes may be refused. Please set it to automatic",
}
"""What the page says that shows a code."""

OWN_LOG = {
    "checking": "The guardians are asked",
    "complete": "Nothing is missing. Your list is complete",
    "incomplete": "Something is missing: you were recognised, and your list does not show it",
    "gone": "Something is gone: your list showed it at your last check, and does not any more",
    "made up": "The answer is not signed by the guardians. Somebody made it up on the way",
    "differ": "The guardians' answers do not fit together. One of them is wrong. Please tell them",
    "busy": "You are being recognised just now. Try again in a minute",
    "no key": "No check key was given when your face was enrolled, so nobody can open your count, not even you. "
    "To get one, delete your face and enrol again",
    "other key": "Your check key is not in this browser. Use the one in which you agreed, or the program that made the "
    "key. If you never had one, somebody else was given the right to check for you: delete your face and enrol again",
    "other guardians": "The guardians' keys are not those that your browser noted. Ask the guardians if they changed",
    "failed": "That did not work. Please try again",
}
"""What a payer's own check of the list says."""

OUTCOMES = {
    "accepted": "Paid",
    "already_paid": "Already paid, not charged again",
    "confirmation_required": "Asked for your PIN or your app",
    "use_card": "Asked for a card",
    "refused": "Refused",
    "details_read": "Somebody of the operator read the details of your dispute",
    "lookalike": "Somebody who looks like you enrolled too",
    "refunded": "Gave you money back",
    "declined": "Declined your dispute",
}

KINDS = {
    "payment": "Payment",
    "refund": "Refund",
    "top_up": "Top-up",
    "card_refund": "Paid back to your card",
    "chargeback": "Top-up taken back by your bank",
    "chargeback_returned": "Top-up given back by your bank",
    "debt": "Something that was owed",
    "pay_out": "Paid out to you",
}

OPERATIONS = {
    "enrol": "Took its piece of your face",
    "pause": "Paused your face",
    "resume": "Switched your face on again",
    "delete": "Erased its piece of your face",
}
"""What guardians sign that they did."""

FACE_STATES = {
    "pending": "Waiting for the guardians",
    "active": "On: you can pay by looking",
    "paused": "Paused: nobody can charge you by face",
    "deleted": "Deleted",
}


DISPUTES = {
    "refunded": "The money is back in your wallet.",
    "under_review": "We look at it. Your money comes back if it was not you.",
    "declined": "We looked at it and could not give the money back.",
}

DEVICES = {
    "active": "Pays",
    "paused": "Paused",
    "owing": "Stopped until what is owed is paid",
    "lost": "Reported lost",
    "revoked": "No longer used",
}

DEVICE_CHANGES = {
    "pause": "Paused. Nobody can pay with that phone now.",
    "resume": "On again. That phone pays.",
    "lost": "Reported lost. Nobody can pay with that phone any more.",
    "end": "Deleted. Nobody can pay with that phone any more.",
}
"""What was done to a phone, after it was done."""


DECLINES = {
    "card_declined": "Your bank said no, and did not say why. It can tell you.",
    "authentication_required": "Your bank wanted to ask you, and you were away.",
    "expired_card": "This card has expired.",
    "incorrect_cvc": "The card's check digits were not right.",
    "insufficient_funds": "There is not enough money on this card.",
    "payment_intent_authentication_failure": "Your bank's question was not answered.",
}
"""Why a card was not charged, by the processor's codes; the first for any other."""


FARES = ENGLISH
"""Why a fare is what it is, by the codes of its lines."""


def explained(line: Line, currency: str, say: Language) -> str:
    """A line of a receipt in the payer's language; whole numbers in it are money."""
    said = {
        name: money(value, currency, say.decimal_point) if isinstance(value, int) else value
        for name, value in line.params.items()
    }
    return say(FARES[line.code], **said)


def signed(kind: str, amount: int) -> int:
    """The amount of a receipt as it changed the balance."""
    return -amount if kind in _OUTGOING else amount


def money(amount: int, currency: str, point: str = ".") -> str:
    """280, EUR -> '2.80 €'; a no-break space keeps amount and currency together."""
    digits = MINOR_UNITS.get(currency, 2)
    sign, units = ("\N{MINUS SIGN}" if amount < 0 else ""), str(abs(amount)).rjust(digits + 1, "0")
    number = f"{units[:-digits]}{point}{units[-digits:]}" if digits else units
    return f"{sign}{number}\N{NO-BREAK SPACE}{_SIGNS.get(currency, currency)}"


def prices(least: int, most: int | None, currency: str, point: str = ".") -> str:
    """200, 300, EUR -> '2.00 € – 3.00 €'; one price where there is no other."""
    first = money(least, currency, point)
    return first if most is None else f"{first} – {money(most, currency, point)}"


_SIGNS = {"EUR": "€", "USD": "$", "GBP": "£", "JPY": "¥"}
_OUTGOING = {"payment", "card_refund", "chargeback", "debt", "pay_out"}
