"""One guardian as a service: share store, policy, request log, links to the other two."""
