"""The console's codes as sentences for the staff; `_("…")` of each is in the catalogues."""

SPANS = {"hour": "The last hour", "day": "The last day", "week": "The last week"}

STAGES = {
    "begin": "Written down",
    "search": "Searched by the guardians",
    "conclude": "Decided and booked",
}

STATES = {
    "succeeded": "Charged",
    "requires_capture": "On hold",
    "requires_identification": "Waits for somebody to read its code",
    "requires_confirmation": "Waits for the payer's yes",
    "processing": "Being answered",
    "refused": "Not charged",
    "canceled": "Ended, not charged",
}

FACTORS = {"pin": "PIN", "app": "Yes in the app", "device": "The payer's own phone", "": "None"}

DISPUTE_STATES = {
    "refunded": "Given back",
    "under_review": "To look at",
    "declined": "Declined",
}

TERMINALS = {"gate": "Gate", "till": "Till"}

POINTS = {
    "flat": "One tap, one fare",
    "entry": "Entry; leaving is tapped too",
    "exit": "Exit",
}

DIFFERENCES = {
    "missing_here": "Missing in our books",
    "missing_there": "Missing in the processor's",
    "amount_differs": "Another amount",
    "twice_there": "Twice in the processor's",
}

ROLES = {"viewer": "Viewer", "support": "Support", "manager": "Manager", "auditor": "Auditor"}

ROLES_MAY = {
    "viewer": "Sees figures, terminals, tariffs, reports and logs.",
    "support": "Sees payments too, gives money back, handles disputes.",
    "manager": "May do everything.",
    "auditor": "Sees figures, the books, and what the staff did; no single payment before it is settled.",
}

ACTIONS = {
    "refund": "Gave back",
    "decide": "Decided a dispute",
    "read_payer": "Saw whose payment it was",
    "register_terminal": "Registered a terminal",
    "rotate_key": "Changed a terminal's key",
    "revoke_terminal": "Revoked a terminal",
    "import_tariff": "Added a tariff",
    "assign_tariff": "Gave a gate its stop",
    "add_staff": "Added somebody",
    "change_role": "Changed a role",
    "revoke_staff": "Revoked somebody",
    "invite": "Invited somebody again",
    "sign_in": "Signed in",
    "join": "Took an invitation",
    "add_passkey": "Added a passkey",
    "name_passkey": "Named a passkey",
    "withdraw_passkey": "Withdrew a passkey",
    "sign_out_everywhere": "Signed out everywhere",
    "settle": "Settled a day",
}

LOGS = {
    "elsewhere": "It is published elsewhere.",
    "unreadable": "It can't be read.",
    "unsigned": "It is not signed as it should be.",
}

SECTIONS = {
    "": "Live",
    "payments": "Payments",
    "disputes": "Disputes",
    "tariffs": "Tariffs",
    "terminals": "Terminals",
    "books": "Books",
    "reports": "Reports",
    "audit": "Audit",
    "staff": "Staff",
    "me": "My sign-in",
}
