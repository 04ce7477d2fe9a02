"""Other servers that do the same work, each as its makers would have it."""
