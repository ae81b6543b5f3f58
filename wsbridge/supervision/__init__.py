"""Background jobs and health checks. A job that ends unexpectedly is a failure of the process."""
