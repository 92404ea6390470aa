"""Fuzzing: what must hold for every input, and the inputs that a fuzzer begins with. ``make fuzz`` runs it."""
