"""What image and speech have in common: jobs whose results are kept, listed, linked to and deleted."""
