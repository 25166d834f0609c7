"""Fills a new shop: 60 customers, 12 products, 240 orders and the four tickets of the demo; always the same."""

from __future__ import annotations

import random
from datetime import date, timedelta

from shop import Shop

__all__ = ["fill"]

_FIRST = ("Maya", "Jonas", "Aylin", "Pavel", "Ines", "Tom", "Chiara", "Noor", "Lukas", "Freya", "Mateo", "Zoe", "Emil", "Sana", "Viktor")
_LAST = ("Okafor", "Weber", "Demir", "Novak", "Costa", "Baker", "Ricci", "Rahman", "Maier", "Lund", "Silva", "Martin", "Berg", "Khan")
_CITIES = ("Aachen", "Bilbao", "Cork", "Dijon", "Esbjerg", "Freiburg", "Ghent", "Graz")
_MAIL = ["posteo.example", "mailbox.example", "inbox.example"]
_PRODUCTS: list[tuple[object, ...]] = [
    ("LAMP-01", "Lumen desk lamp", 8900, 41),
    ("LAMP-02", "Lumen floor lamp", 14900, 12),
    ("FAN-40", "Breeze 40 desk fan", 4950, 73),
    ("FAN-60", "Breeze 60 tower fan", 9900, 18),
    ("DESK-12", "Strata standing desk", 48000, 9),
    ("DESK-16", "Strata corner desk", 62000, 4),
    ("CHAIR-07", "Sella office chair", 27900, 22),
    ("MAT-03", "Terra standing mat", 5900, 130),
    ("ARM-02", "Levo monitor arm", 11900, 37),
    ("SHELF-05", "Linea wall shelf", 3900, 88),
    ("CLOCK-01", "Tempo wall clock", 2900, 64),
    ("BOX-10", "Arca drawer box", 1900, 201),
]
_SHADE = "Order 1042: the glass shade of my desk lamp came cracked. I keep the lamp; may I have a refund of 35.00 EUR for the shade?"
_NOTICE = "Fanworks put up a notice about the Breeze 40 fan: {} . Please read it and write to warehouse@corp.example what they have to do."
_DESK = "Order 1077: the standing desk came with a bent frame and your carrier has taken it back. Please refund the 480.00 EUR."
_STOCK = "How much stock do we have of LAMP-01, FAN-40, DESK-12, CHAIR-07 and MAT-03? I need all five before noon."
_FIRST_ORDER = 1000
_ORDERS = 240


def fill(shop: Shop, notice_url: str) -> None:
    """Create the shop's tables and rows.

    Args:
        shop: An empty database.
        notice_url: Address of the supplier's page that ticket T-102 speaks of.
    """
    # A generator of its own: seeding the global one would make identical trace ids in every run.
    dice = random.Random(7)  # noqa: S311 - invented data, nothing secret
    customers = _customers(dice)
    shop.create({"customers": customers, "products": _PRODUCTS, "orders": _orders(dice, len(customers)), "tickets": _tickets(notice_url)})


def _customers(dice: random.Random) -> list[tuple[object, ...]]:
    names = [("Maya", "Okafor"), ("Jonas", "Weber")]
    others = [(first, last) for first in _FIRST for last in _LAST if (first, last) not in names]
    names += dice.sample(others, 58)
    return [
        (number, f"{first} {last}", f"{first}.{last}@{_MAIL[number % 3]}".lower(), dice.choice(_CITIES))
        for number, (first, last) in enumerate(names, start=1)
    ]


def _orders(dice: random.Random, customers: int) -> list[tuple[object, ...]]:
    fixed: dict[int, tuple[object, ...]] = {
        1042: (1042, 1, "LAMP-01", 1, "2026-10-28", "delivered"),
        1077: (1077, 2, "DESK-12", 1, "2026-11-03", "returned"),
    }
    return [fixed.get(number) or _any_order(dice, number, customers) for number in range(_FIRST_ORDER, _FIRST_ORDER + _ORDERS)]


def _any_order(dice: random.Random, number: int, customers: int) -> tuple[object, ...]:
    sku = str(dice.choice(_PRODUCTS)[0])
    placed = date(2026, 9, 1) + timedelta(days=dice.randrange(75))
    status = dice.choice(("delivered", "shipped", "packed"))
    return (number, dice.randint(1, customers), sku, dice.randint(1, 3), placed.isoformat(), status)


def _tickets(notice_url: str) -> list[tuple[object, ...]]:
    return [
        ("T-101", "maya.okafor@mailbox.example", _SHADE),
        ("T-102", "purchasing@corp.example", _NOTICE.format(notice_url)),
        ("T-103", "jonas.weber@inbox.example", _DESK),
        ("T-104", "purchasing@corp.example", _STOCK),
    ]
