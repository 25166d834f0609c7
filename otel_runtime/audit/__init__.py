"""The authenticated, append-only record of decisions and approvals."""
