"""What a process must see to for itself: its memory, its file descriptors, what hangs."""
