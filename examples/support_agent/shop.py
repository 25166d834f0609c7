"""The shop behind the agent: a real SQLite database with customers, products, orders, refunds and tickets."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Order", "Shop", "Ticket"]

_SCHEMA = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL UNIQUE, city TEXT NOT NULL);
CREATE TABLE products (sku TEXT PRIMARY KEY, title TEXT NOT NULL, price_cents INTEGER NOT NULL, in_stock INTEGER NOT NULL);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers, sku TEXT NOT NULL REFERENCES products,
                     quantity INTEGER NOT NULL, placed_on TEXT NOT NULL, status TEXT NOT NULL);
CREATE TABLE refunds (id INTEGER PRIMARY KEY, order_id INTEGER NOT NULL REFERENCES orders, amount_cents INTEGER NOT NULL,
                      reason TEXT NOT NULL, paid_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')));
CREATE TABLE tickets (id TEXT PRIMARY KEY, sender TEXT NOT NULL, text TEXT NOT NULL);
"""
_ORDER = """
SELECT o.id, c.name, c.email, p.title, o.quantity, o.quantity * p.price_cents, o.status, o.placed_on,
       (SELECT coalesce(sum(amount_cents), 0) FROM refunds WHERE order_id = o.id)
  FROM orders o JOIN customers c ON c.id = o.customer_id JOIN products p ON p.sku = o.sku
"""


@dataclass(frozen=True, slots=True)
class Order:
    """One order, amounts in euros."""

    id: int
    customer: str
    email: str
    product: str
    quantity: int
    total: float
    status: str
    placed_on: str
    refunded: float


@dataclass(frozen=True, slots=True)
class Ticket:
    """One message in the support inbox."""

    id: str
    sender: str
    text: str


class Shop:
    """Reads and writes the shop's database; one short connection per call, so any thread or process may use it.

    Args:
        path: The SQLite file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path, timeout=10)
        try:
            with connection:
                connection.execute("PRAGMA foreign_keys = ON")
                yield connection
        finally:
            connection.close()

    def create(self, rows: dict[str, list[tuple[object, ...]]]) -> None:
        """Make the tables and fill them.

        Args:
            rows: Table name to rows in column order.
        """
        with self._connection() as connection:
            connection.executescript(_SCHEMA)
            for table, values in rows.items():
                marks = ", ".join("?" * len(values[0]))
                connection.executemany(f"INSERT INTO {table} VALUES ({marks})", values)  # noqa: S608 - table names are ours

    def order(self, order_id: int) -> Order | None:
        """One order, or None."""
        with self._connection() as connection:
            row = connection.execute(f"{_ORDER} WHERE o.id = ?", (order_id,)).fetchone()
        return _order(row) if row else None

    def orders_of(self, email: str) -> list[Order]:
        """All orders of one customer, newest first."""
        with self._connection() as connection:
            rows = connection.execute(f"{_ORDER} WHERE c.email = ? ORDER BY o.placed_on DESC", (email,)).fetchall()
        return [_order(row) for row in rows]

    def customers(self, limit: int) -> list[tuple[str, str, str]]:
        """Name, address and city of customers, by name."""
        with self._connection() as connection:
            return connection.execute("SELECT name, email, city FROM customers ORDER BY name LIMIT ?", (limit,)).fetchall()

    def stock(self, sku: str) -> int | None:
        """How many pieces lie in the warehouse; None for an unknown product."""
        with self._connection() as connection:
            row = connection.execute("SELECT in_stock FROM products WHERE sku = ?", (sku,)).fetchone()
        return int(row[0]) if row else None

    def refund(self, order_id: int, amount: float, reason: str) -> int:
        """Pay money back and return the refund's number.

        Args:
            order_id: The order.
            amount: Euros, above 0 and not more than what is left of the order's total.
            reason: For the bookkeeping.

        Raises:
            ValueError: There is no such order, or the amount does not fit it.
        """
        cents = round(amount * 100)
        with self._connection() as connection:
            # The check and the row belong to one write transaction, or two refunds at once could exceed the total.
            connection.execute("BEGIN IMMEDIATE")
            row = connection.execute(f"{_ORDER} WHERE o.id = ?", (order_id,)).fetchone()
            if row is None:
                raise ValueError(f"there is no order {order_id}")
            left = row[5] - row[8]
            if not 0 < cents <= left:
                raise ValueError(f"order {order_id} has {left / 100:.2f} EUR left to refund, got {amount}")
            insert = "INSERT INTO refunds (order_id, amount_cents, reason) VALUES (?, ?, ?)"
            return int(connection.execute(insert, (order_id, cents, reason)).lastrowid or 0)

    def refunds(self) -> list[tuple[int, float, str]]:
        """Order, euros and reason of every refund paid, oldest first."""
        with self._connection() as connection:
            rows = connection.execute("SELECT order_id, amount_cents, reason FROM refunds ORDER BY id").fetchall()
        return [(order_id, cents / 100, reason) for order_id, cents, reason in rows]

    def tickets(self) -> list[Ticket]:
        """The support inbox, oldest first."""
        with self._connection() as connection:
            rows = connection.execute("SELECT id, sender, text FROM tickets ORDER BY id").fetchall()
        return [Ticket(*row) for row in rows]


def _order(row: tuple[int, str, str, str, int, int, str, str, int]) -> Order:
    number, customer, email, product, quantity, cents, status, placed_on, refunded = row
    return Order(number, customer, email, product, quantity, cents / 100, status, placed_on, refunded / 100)
