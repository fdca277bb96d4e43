"""Answers as people and programs read them. Text goes in and out; nothing here asks or decides."""
