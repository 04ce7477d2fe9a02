"""Where sessions come from: a recording proxy, what browsers and other tools export, a page's own console."""
