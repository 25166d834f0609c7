"""What the agent can do. Plain functions over the shop in the working folder; `@rt.tool` is all that guards and traces them."""

from __future__ import annotations

import urllib.request
import uuid
from dataclasses import asdict
from email.message import EmailMessage
from pathlib import Path

from shop import Shop

import otel_runtime as rt

__all__ = ["check_stock", "find_customers", "find_orders", "get_order", "refund", "send_email", "web_fetch"]

_MOST_BYTES = 64 * 1024


def _shop() -> Shop:
    # Looked up for every call: the tools belong to whatever folder the process works in.
    return Shop(Path("shop.db"))


@rt.tool
def get_order(order_id: int) -> dict[str, object]:
    """Look up one order by its number."""
    order = _shop().order(order_id)
    if order is None:
        raise LookupError(f"there is no order {order_id}")
    return asdict(order)


@rt.tool
def find_orders(email: str) -> list[dict[str, object]]:
    """List the orders of a customer by e-mail address, newest first."""
    return [asdict(order) for order in _shop().orders_of(email)]


@rt.tool
def find_customers(limit: int = 20) -> list[dict[str, str]]:
    """List customers with name, e-mail address and city."""
    return [{"name": name, "email": email, "city": city} for name, email, city in _shop().customers(limit)]


@rt.tool(retry=True)
def check_stock(sku: str) -> dict[str, object]:
    """Ask the warehouse how many pieces of a product it has. The warehouse allows three questions in two seconds."""
    count = _shop().stock(sku)
    if count is None:
        raise LookupError(f"there is no product {sku}")
    return {"sku": sku, "in_stock": count}


@rt.tool
def refund(order_id: int, amount: float, reason: str) -> dict[str, object]:
    """Pay money back for an order. The amount is in EUR."""
    number = _shop().refund(order_id, amount, reason)
    return {"refund": number, "order_id": order_id, "amount": amount}


@rt.tool
def send_email(to: list[str], subject: str, body: str) -> str:
    """Send a plain text e-mail."""
    message = EmailMessage()
    message["From"] = "support@corp.example"
    message["To"] = ", ".join(to)
    message["Subject"] = subject
    message.set_content(body)
    outbox = Path("outbox")
    outbox.mkdir(exist_ok=True)
    (outbox / f"{uuid.uuid4().hex}.eml").write_bytes(bytes(message))
    return f"sent to {', '.join(to)}"


@rt.tool
def web_fetch(url: str) -> str:
    """Fetch a web page and return its text."""
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"expected an http or https address, got {url}")
    with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - the scheme is checked above
        return str(response.read(_MOST_BYTES).decode("utf-8", errors="replace"))
