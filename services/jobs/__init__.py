"""Jobs: work that is queued, reports its progress, ends exactly once and can be cancelled. Knows no service."""
