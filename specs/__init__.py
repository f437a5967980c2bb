"""The studies that ship with the program, as package data."""
