"""WebSockets that a route passes on to its upstream."""
