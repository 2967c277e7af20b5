"""The pages that people touch: the payer's app, the screens of gates and tills, the operator's console.

Server-rendered pages, small modules of our own JavaScript, no request to any other host. The routes call the
same functions of wallet and payments as the API does; a page shows one payer's own things to that payer only.

Jobs, one module each: `mounting` (puts it all into the wallet's app), `guard` (policy of every response),
`sign_in` (routes of passkeys and sessions), `passkeys` (of payers and staff), `sessions`, `visitor` (who
asks), `payer` and its `payer_…` (routes of the payer's app), `console` and its `console_…` (routes of the operator's),
`desk`, `staff` and its `staff_…` (who of the operator asks, and may), `notifying` (mail and push), `networks`,
`assets` and `packing` (what the browser reads a face with), `static_files`, `rendering` (templates), `words`,
`console_words` and `languages`, `kiosk` and `till_screen` (the screens of terminals), `commands`.
"""

from facefare.web.pages.mounting import mount_pages

__all__ = ["mount_pages"]
