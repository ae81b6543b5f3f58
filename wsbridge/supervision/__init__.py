"""Background jobs and named health checks: the end of none goes unnoticed."""
