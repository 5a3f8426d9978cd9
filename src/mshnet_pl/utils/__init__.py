"""Files, processes, signals, devices: what every part of the package may need."""
