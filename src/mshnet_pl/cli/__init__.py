"""The commands: they parse, print and set exit codes; nothing else."""
