"""Usage of any provider as one record, its price, and running sums. No OpenTelemetry here."""
