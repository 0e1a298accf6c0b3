"""A real Prometheus watches real servers: does every panel show something, and does every alert fire and resolve?"""
