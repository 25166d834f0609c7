"""What every room speaks: frozen values without I/O, clock or OpenTelemetry."""
