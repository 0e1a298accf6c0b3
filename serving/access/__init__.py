"""Who may ask what, and how much: tokens, their scopes, and limits for each client."""
