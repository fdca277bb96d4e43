"""The controller, tested file for file."""
