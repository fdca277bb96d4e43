"""The live machine: this package alone touches it. Every question is bounded in time."""
