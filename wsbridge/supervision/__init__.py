"""Background jobs, health checks and the event loop. A job that ends unexpectedly is a failure of the process."""
