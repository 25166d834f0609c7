"""SQLite connections, transactions, migrations and fork safety; knows nobody's tables."""
