"""WebSockets that speak other systems' formats. One task serves each: their messages are few, and large."""
