"""Active ISO 4217 currencies and their minor units (list one, funds and metals left out)."""

from facefare.ledger.errors import InvalidAmount, UnknownCurrency

_TWO = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY "
    "COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF "
    "IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR "
    "MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG "
    "SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES "
    "WST XCD XCG YER ZAR ZMW ZWG"
)
_NONE = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_THREE = "BHD IQD JOD KWD LYD OMR TND"

MINOR_UNITS: dict[str, int] = {
    **dict.fromkeys(_TWO.split(), 2),
    **dict.fromkeys(_NONE.split(), 0),
    **dict.fromkeys(_THREE.split(), 3),
}
"""Currency code -> digits after the decimal point."""

MAX_AMOUNT = 10**15
"""No single movement is larger: far above any payment, far below what a bigint balance can sum."""


def check_currency(code: str) -> str:
    """The code itself; raises UnknownCurrency where it is no active ISO 4217 code."""
    if code not in MINOR_UNITS:
        raise UnknownCurrency(f"{code[:8]!r} is not an active ISO 4217 currency; use a code such as EUR.")
    return code


def check_amount(amount: int) -> int:
    """The amount itself; raises InvalidAmount unless it is 1 … MAX_AMOUNT minor units."""
    if not 1 <= amount <= MAX_AMOUNT:
        raise InvalidAmount(f"An amount must be 1 to {MAX_AMOUNT} minor units.")
    return amount


def shown(amount: int, currency: str) -> str:
    """For people: 280 EUR minor units -> '2.80 EUR'."""
    digits = MINOR_UNITS[check_currency(currency)]
    sign, units = "-" if amount < 0 else "", str(abs(amount)).rjust(digits + 1, "0")
    return f"{sign}{units[:-digits]}.{units[-digits:]} {currency}" if digits else f"{sign}{units} {currency}"
