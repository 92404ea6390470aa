"""Who may do what: tokens, routes, users, and what strangers may try."""
