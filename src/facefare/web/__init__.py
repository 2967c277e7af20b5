"""HTTP API routers and pages."""
