"""The modules of a shop. Each does one thing that looks harmless, and blocks while it does."""
