"""Endpoints that speak other systems' formats: their clients work with generations as they are."""
