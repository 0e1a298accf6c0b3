"""What an RPC means: predictions, health, reflection, whichever transport carries them."""
