"""A small screenshot-to-code service: measures a picture's layout and writes it as HTML, React or Vue; no network."""
