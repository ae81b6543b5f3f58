"""Traces with OpenTelemetry, an optional library: only `spans`, `exporter` and `environment` import it."""
