"""HTTP: connections, access, the routes, and bodies with their limits and compression."""
