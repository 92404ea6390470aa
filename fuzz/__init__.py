"""Fuzzing: the rules for every input, and the inputs with which a fuzzer starts. ``make fuzz`` runs it."""
