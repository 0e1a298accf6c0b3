"""Faults that happen: to processes, disks, clocks, memory, devices and clients, while calls are in flight."""
